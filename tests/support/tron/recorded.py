"""Real answers of java-tron, with where each came from. Nothing in them is changed, except as is said beside it.

All ids were checked: each is the hash of the bytes beside it (tests/unit/test_tron_parse.py).
"""
# ruff: noqa: E501  # the chain's bytes are as long as they are

from dataclasses import dataclass
from typing import Any

MAINNET_GENESIS = "00000000000000001ebf88508a03865c71d452e25f4d51194196a1d22b6653dc"
NILE_GENESIS = "0000000000000000d698d4192c56cb6be724a558448e2684802de4d6cd8690dc"
SHASTA_GENESIS = "0000000000000000de1aa88295e1fcf982742f773e0419c5a9c134c994a9059e"
"""By tron/caip2.md of ChainAgnostic/namespaces, pull request 170 (which had the last two the wrong way round at first)."""


def _transaction(
    id_: str, kind: str, value: dict[str, Any], timestamp: int, content: str, *, fee_limit: int | None = None
) -> dict[str, Any]:
    raw = {
        "contract": [{"parameter": {"value": value, "type_url": f"type.googleapis.com/protocol.{kind}"}, "type": kind}],
        "ref_block_bytes": "13c2",
        "ref_block_hash": "05b5c63cf65e5bf0",
        "expiration": 1681820076000,
        "timestamp": timestamp,
    }
    if fee_limit is not None:
        raw["fee_limit"] = fee_limit
    return {"ret": [{"contractRet": "SUCCESS"}], "txID": id_, "raw_data": raw, "raw_data_hex": content}


MAINNET_BLOCK: dict[str, Any] = {
    "blockID": "00000000030113d6fc39a5a7662b0e935207e94fad803b6b125ff7511a6378d9",
    "block_header": {
        "raw_data": {
            "number": 50402262,
            "txTrieRoot": "8fa3fc2a8c4a21cf91ddd3c3a455dad4ee1a0ef4c6f596bdbc30774791baa74f",
            "witness_address": "4178c842ee63b253f8f0d2955bbc582c661a078c9d",
            "parentHash": "00000000030113d5c310d69d1bbb2e093c5e865f5099911f6654910730c04c75",
            "version": 27,
            "timestamp": 1681820022000,
        },
        "witness_signature": "08749962ac09326ebca887b38e868ee02b0d5159b76b65f5ac2cf27bb6e1a6ed0cbbbcefcf48cd2f250b15f36521d18380e4426f0a1e83973d781884e85cc4b301",
    },
    "transactions": [
        _transaction(
            "191179a2a42dc93b09e7c50c9519dca64eaab17d441433e25a3d57ef8c8ad731",
            "TransferContract",
            {
                "amount": 5,
                "owner_address": "4187acffe45c0ef0bd2658f97cd689f8ea8b939163",
                "to_address": "41370887f5a83ec09cacc7e4a510c43df87723d992",
            },
            1681820018907,
            "0a0213c2220805b5c63cf65e5bf040e08fa7a2f9305a65080112610a2d747970652e676f6f676c65617069732e636f6d2f70726f746f636f6c2e5472616e73666572436f6e747261637412300a154187acffe45c0ef0bd2658f97cd689f8ea8b939163121541370887f5a83ec09cacc7e4a510c43df87723d992180570dbd1a3a2f930",
        ),
        _transaction(
            "849f76b137c895e2d71ebbe231acc54aae9b86150aedf7048fb43ccc4f0be03b",
            "TransferAssetContract",
            {
                "amount": 10000,
                "asset_name": "31303034393335",
                "owner_address": "411c8099ed397bab0ffdb1ccbbd7a9b598e40dd497",
                "to_address": "41ae743a1a0006dfce57bbd3ff18edf06d3a3d0d65",
            },
            1681820017945,
            "0a0213c2220805b5c63cf65e5bf040e08fa7a2f9305a74080212700a32747970652e676f6f676c65617069732e636f6d2f70726f746f636f6c2e5472616e736665724173736574436f6e7472616374123a0a07313030343933351215411c8099ed397bab0ffdb1ccbbd7a9b598e40dd4971a1541ae743a1a0006dfce57bbd3ff18edf06d3a3d0d6520904e7099caa3a2f930",
        ),
        _transaction(
            "c387876cb53384649302c32ebf0cf9984d7b9d68a0032c1220b417e8aa6bda8a",
            "TriggerSmartContract",
            {
                "data": "23b872dd000000000000000000000041d530633434a0d3ffe26395d5e10738fb72175ec5000000000000000000000041817691d0553e54d21bb925e67764b5e166194ca0000000000000000000000000000000000000000000000173729a208c50900000",
                "owner_address": "41cf7991c2268235dc2839a17aa9bec57000b2827c",
                "contract_address": "4155459d5cc2974e618b57ace6ce92094c6ca77780",
            },
            1681820018227,
            "0a0213c2220805b5c63cf65e5bf040e08fa7a2f9305acf01081f12ca010a31747970652e676f6f676c65617069732e636f6d2f70726f746f636f6c2e54726967676572536d617274436f6e74726163741294010a1541cf7991c2268235dc2839a17aa9bec57000b2827c12154155459d5cc2974e618b57ace6ce92094c6ca77780226423b872dd000000000000000000000041d530633434a0d3ffe26395d5e10738fb72175ec5000000000000000000000041817691d0553e54d21bb925e67764b5e166194ca0000000000000000000000000000000000000000000000173729a208c5090000070b3cca3a2f930900180e1eb17",
            fee_limit=50000000,
        ),
    ],
}
"""Block 50402262 of the main network with three of its transactions, as a public Go wallet's test has it (package tron,
TestBlockJson; the repository's name is not known here). Left out: signatures, and the other transactions."""

USDT_TRANSFER: dict[str, Any] = {
    "ret": [{"contractRet": "SUCCESS"}],
    "txID": "5e8e3cdf239f31c678b6119c95c76c402a71f50947d960c3905825ee648cd75a",
    "raw_data": {
        "contract": [
            {
                "parameter": {
                    "value": {
                        "data": "a9059cbb000000000000000000000041838eed07fa72a857058e4f9f98bf0e6a2f1af4730000000000000000000000000000000000000000000000000000000000004651",
                        "owner_address": "418ca132af72e7864eee48eac163a1fb4028662091",
                        "contract_address": "41a614f803b6fd780986a42c78ec9c7f77e6ded13c",
                    },
                    "type_url": "type.googleapis.com/protocol.TriggerSmartContract",
                },
                "type": "TriggerSmartContract",
            }
        ],
        "ref_block_bytes": "8537",
        "ref_block_hash": "f373eda9e68b4dc1",
        "expiration": 1718703903000,
        "fee_limit": 100000000,
        "timestamp": 1718703844821,
    },
    "raw_data_hex": "0a0285372208f373eda9e68b4dc14098a2f1d582325aae01081f12a9010a31747970652e676f6f676c65617069732e636f6d2f70726f746f636f6c2e54726967676572536d617274436f6e747261637412740a15418ca132af72e7864eee48eac163a1fb4028662091121541a614f803b6fd780986a42c78ec9c7f77e6ded13c2244a9059cbb000000000000000000000041838eed07fa72a857058e4f9f98bf0e6a2f1af473000000000000000000000000000000000000000000000000000000000000465170d5dbedd58232900180c2d72f",
}
USDT_BLOCK = (62686538, 1718703846000)
"""A transfer of 0.018001 USDT, and its block's number and time, of the main network: in the comments of a public Go client
of TronGrid's `/v1/accounts/.../transactions` (the repository's name is not known here). Left out: the signature and
TronGrid's own fields."""

USDT_INFO: dict[str, Any] = {
    "id": "b69c51db8f9d974e6a38c76852c8ce1adcb682dbacb25ad8ad4f6876121fe9dc",
    "fee": 345000,
    "blockNumber": 66861993,
    "blockTimeStamp": 1731235554000,
    "contractResult": ["0000000000000000000000000000000000000000000000000000000000000000"],
    "contract_address": "41a614f803b6fd780986a42c78ec9c7f77e6ded13c",
    "receipt": {
        "energy_usage": 64285,
        "energy_usage_total": 64285,
        "net_fee": 345000,
        "result": "SUCCESS",
        "energy_penalty_total": 49635,
    },
    "log": [
        {
            "address": "a614f803b6fd780986a42c78ec9c7f77e6ded13c",
            "topics": [
                "ddf252ad1be2c89b69c2b068fc378daa952ba7f163c4a11628f55a4df523b3ef",
                "00000000000000000000000060e6e92e57d61a9d68b5d95275cc9667d9e6c7c9",
                "000000000000000000000000cdae4e9a6287333a3f7df432b050af7b17e79e63",
            ],
            "data": "00000000000000000000000000000000000000000000000000000000003567e0",
        }
    ],
}
OUT_OF_ENERGY_INFO: dict[str, Any] = {
    "id": "e63a324a43aebfe41273db4f7fdfe325b2257b4f5711595a5fc0f8a75cf1b481",
    "fee": 16500120,
    "blockNumber": 66860010,
    "blockTimeStamp": 1731229605000,
    "contractResult": [""],
    "contract_address": "41a614f803b6fd780986a42c78ec9c7f77e6ded13c",
    "receipt": {
        "energy_fee": 16500120,
        "energy_usage_total": 78572,
        "net_usage": 345,
        "result": "OUT_OF_ENERGY",
        "energy_penalty_total": 25905,
    },
    "result": "FAILED",
    "resMessage": "4e6f7420656e6f75676820656e6572677920666f7220275353544f524527206f7065726174696f6e20657865637574696e673a20637572496e766f6b65456e657267794c696d69745b37383537325d2c206375724f70456e657267795b32303030305d2c2070656e616c7479456e657267795b36383030305d2c2075736564456e657267795b33333536375d",
}
TRX_INFO: dict[str, Any] = {
    "id": "2389719608ed69f7ec3e72c1abb92acaa43b7175f3062f4ebc6e2e02cc82d0d2",
    "blockNumber": 66862205,
    "blockTimeStamp": 1731236190000,
    "contractResult": [""],
    "receipt": {"net_usage": 265},
}
"""The infos of a USDT transfer, of one that ran out of energy and of one of TRX, of the main network, as Grommash9/aiotx
shows them (docs/clients/tron_client/get_transaction_info.rst; get_transaction_status.rst has the second's `contractRet`,
OUT_OF_ENERGY). A transfer of TRX has no `receipt.result`."""

PRIVATE_BLOCK: dict[str, Any] = {
    "blockID": "00000000000000a568a725352ccd7fbad4e65f56ed11d420a505c21f2230145d",
    "block_header": {
        "raw_data": {
            "timestamp": 1790865510000,
            "txTrieRoot": "c85f5050cb4a05c58222017f823191d5ae1ca07b7bd7f090f493a35c10f03491",
            "parentHash": "00000000000000a4b0ef6ad98a02403ebb86833716c2350b6338a6ee79df2dfc",
            "number": 165,
            "witness_address": "417e5f4552091a69125d5dfcb7b8c2659029395bdf",
            "version": 38,
        },
        "witness_signature": "9a36b7a129a3a673d326e9cb5c6974a332cca68b4c1a5ab531327da89849239147d032ebfead62d75ceadb9d8482eba53507392658bde4b8aea902ca543101cf00",
    },
    "transactions": [
        {
            "raw_data": {
                "ref_block_bytes": "00a4",
                "ref_block_hash": "b0ef6ad98a02403e",
                "expiration": 1790908707000,
                "contract": [
                    {
                        "parameter": {
                            "value": {"owner_address": "41dcf2957055e8fcde477a077ecfeddf5ab2357547"},
                            "type_url": "type.googleapis.com/protocol.CancelAllUnfreezeV2Contract",
                        },
                        "type": "CancelAllUnfreezeV2Contract",
                    }
                ],
                "timestamp": 1790865507489,
            },
            "signature": [
                "755e1552868a1734c90c28dacb66e58f85eaa5fc2845593280e3b6ee1cf1b7af793cc378d8c3ad144542502270ab852095665abfffdea306200a9942a67e161401"
            ],
            "ret": [{"contractRet": "SUCCESS"}],
            "raw_data_hex": "0a0200a42208b0ef6ad98a02403e40b8e1e8d38f345a57083b12530a38747970652e676f6f676c65617069732e636f6d2f70726f746f636f6c2e43616e63656c416c6c556e667265657a655632436f6e747261637412170a1541dcf2957055e8fcde477a077ecfeddf5ab235754770a1899cbf8f34",
            "txID": "db8667ffea27109131fd5c113abcadd535c896590814a50dbf9eda253a8d19da",
        }
    ],
}
PRIVATE_INFO_MAP: dict[str, Any] = {
    "id": "db8667ffea27109131fd5c113abcadd535c896590814a50dbf9eda253a8d19da",
    "blockNumber": 165,
    "blockTimeStamp": 1790865510000,
    "contractResult": [""],
    "receipt": {"net_usage": 250},
    "cancel_unfreezeV2_amount": [
        {"key": "ENERGY", "value": 10000000},
        {"key": "TRON_POWER", "value": 0},
        {"key": "BANDWIDTH", "value": 0},
    ],
}
PRIVATE_INFO_INTERNAL: dict[str, Any] = {
    "id": "7c44d197b2dcdc7452663f1d7fab7636e06aeb29393f7cd32074a39dde9d4139",
    "fee": 676100,
    "blockNumber": 158,
    "blockTimeStamp": 1790865489000,
    "contractResult": [""],
    "contract_address": "41a4de5410785ffffc7c210f126f7534d868c2ecc9",
    "receipt": {"energy_fee": 676100, "energy_usage_total": 6761, "net_usage": 279, "result": "SUCCESS"},
    "internal_transactions": [
        {
            "hash": "1227752b70cbd45384e9276bddf4ed3e165c83f938a4282d734bf0458f8aee8d",
            "caller_address": "41a4de5410785ffffc7c210f126f7534d868c2ecc9",
            "transferTo_address": "41dcf2957055e8fcde477a077ecfeddf5ab2357547",
            "callValueInfo": [{"callValue": 1}],
            "note": "63616c6c",
        }
    ],
}
"""Verbatim answers of java-tron 4.8.2 in a private network, as sxwebdev/gotron's test of its HTTP transport has them
(pkg/client: liveBlock, liveReceiptWithMap, liveReceiptWithInternalTx). The last is a contract that passes on 1 sun."""

MEMO_TRANSFER: dict[str, Any] = {
    "ret": [{"contractRet": "SUCCESS"}],
    "txID": "9b3b0004e5a575b3c7a6989d403098a407a5a89b94ea137828eb84a0a32e7180",
    "raw_data_hex": "0a026b932208fbf1c0822cfcb9214090d1e0d08d30528101436f6e67726174756c6174696f6e73206f6e2067657474696e6720323030e2808b305553e2808b44542c2072656465656d206174202867e2808b6f55e2808b5344e2808b2e56e2808b49502920e88eb7e5be97323030305553e2808b4454efbc8ce588b020676fe2808b7573e2808b642ee2808b76e2808b697020e58591e68da25a76080212720a32747970652e676f6f676c65617069732e636f6d2f70726f746f636f6c2e5472616e736665724173736574436f6e7472616374123c0a0731303034303839121541f3e9d30c5db93119cd0ce7a2b9b4ae466173593c1a154145da64cfabd76ff1ad1bfdabf747017b1780bef22080ade204708b93ddd08d30",
}
"""A worthless TRC-10 token in block 40790951 of the main network, with an advertisement as its memo: 129 bytes with
invisible characters in them, so no tag. From the README of a public PHP interface to Tron (Tron-api-trx-trc20-tron-usdt-trc10)."""


@dataclass(frozen=True)
class Sent:
    """A transaction's bytes, and what explorers show of it."""

    id: str
    content: str
    kind: int
    sender: str
    recipient: str | None
    units: int
    token: bytes | None


LEDGER = [
    Sent(
        "47086db397eac45d2fe7dacedcb6f77267d6895dce645210e495e64f8a2a7910",
        "0a02fdf622084cd898aed8ce5d1440f0d2ccf1fd315a65080112610a2d747970652e676f6f676c65617069732e636f6d2f70726f746f636f6c2e5472616e73666572436f6e747261637412300a15419b3281a60ab7a44f351ef2896c653f134972ad2212154105cc125604448afeb6867eb688efb7e80411d57a1805709c91c9f1fd31",
        1,
        "419b3281a60ab7a44f351ef2896c653f134972ad22",
        "4105cc125604448afeb6867eb688efb7e80411d57a",
        5,
        None,
    ),
    Sent(
        "03d5e0604e8f91b9e48efc5febf70a24f9f40e2d5de00452783dd47e94892c88",
        "0a02b29422082eb0eddbd69156ac40889282a6cd315a68080112640a2d747970652e676f6f676c65617069732e636f6d2f70726f746f636f6c2e5472616e73666572436f6e747261637412330a15417ef4d4d0ee4ecd7e1666f2e43bbe74364c7779ee12154105cc125604448afeb6867eb688efb7e80411d57a1895f5b20c70fff1d9a5cd31",
        1,
        "417ef4d4d0ee4ecd7e1666f2e43bbe74364c7779ee",
        "4105cc125604448afeb6867eb688efb7e80411d57a",
        26_000_021,
        None,
    ),
    Sent(
        "a3fa98036b8651c7ca88e9d2f11b2a06b68318b5aeecf15d50b7d40f957d0d6d",
        "0a026b1c2208dbb777f277eb365440b0c7cd8ff5305a76080212720a32747970652e676f6f676c65617069732e636f6d2f70726f746f636f6c2e5472616e736665724173736574436f6e7472616374123c0a07313030343932301215410e78ecd9f6f65676537dbb082f8fb1f5f4c408791a154105cc125604448afeb6867eb688efb7e80411d57a20b8f1800970edf8c98ff530",
        2,
        "410e78ecd9f6f65676537dbb082f8fb1f5f4c40879",
        "4105cc125604448afeb6867eb688efb7e80411d57a",
        18_888_888,
        b"1004920",
    ),
    Sent(
        "154164dd04482ae78f930033d0ad95730b8b19fde171a33c3920d18c228426ab",
        "0a02ce7d220887273c4324d0757440f8c2f4a2e5305aae01081f12a9010a31747970652e676f6f676c65617069732e636f6d2f70726f746f636f6c2e54726967676572536d617274436f6e747261637412740a154105cc125604448afeb6867eb688efb7e80411d57a12154174472e7d35395a6b5add427eecb7f4b62ad2b0712244a9059cbb000000000000000000000041a2ff80f95ce3740235dc46a4dffe00d9f9b91f37000000000000000000000000000000000000000000000000000000000016fcee709a83f1a2e530900180e1eb17",
        31,
        "4105cc125604448afeb6867eb688efb7e80411d57a",
        None,
        0,
        None,
    ),
    Sent(
        "8cd075562f0f70be0a0d3521fea55bed36b0d785dc63a101386932b41ee12dee",
        "0a026b17220858c21cec3223dfac4098d2cc8ff5305a55080c12510a34747970652e676f6f676c65617069732e636f6d2f70726f746f636f6c2e556e667265657a6542616c616e6365436f6e747261637412190a154105cc125604448afeb6867eb688efb7e80411d57a500170a18bc98ff530",
        12,
        "4105cc125604448afeb6867eb688efb7e80411d57a",
        None,
        0,
        None,
    ),
]
"""Two transfers of TRX, one of a TRC-10 token, a call of a TRC-20 contract (which itself moves nothing) and something else,
all of the main network: LedgerHQ/ledger-live, libs/coin-modules/coin-tron/src/network/types.fixture.ts."""
