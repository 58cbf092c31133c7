import pytest

from chains import formats
from chains.aptos.formats import asset_coin_type, asset_metadata, coin_reference
from chains.aptos.objects import APT_METADATA, paired_metadata, primary_store
from core.errors import InvalidRequestError

CHAIN = "aptos:1"
LONG = "0x0ac6b36f89b6a3fc9b7c2cabcb1f29cc624e609ed0978dd2a757b048196cb3bc"

# From aptos-indexer-processors, `v2_fungible_asset_balances.rs` (METADATA_TO_COIN_TYPE_MAPPING): what its makers found
# on mainnet, among them a type without its leading zero, and one with types in it.
PAIRS = {
    "0x1::aptos_coin::AptosCoin": APT_METADATA,
    "0xf22bede237a07e121b56d91a491eb7bcdfd1f5907926a9e58338f964a01b17fa::asset::USDT": (
        "0xe568e9322107a5c9ba4cbd05a630a5586aa73e744ada246c3efb0f4ce3e295f3"
    ),
    "0xf22bede237a07e121b56d91a491eb7bcdfd1f5907926a9e58338f964a01b17fa::asset::USDC": (
        "0x2b3be0a97a73c87ff62cbdd36837a9fb5bbd1d7f06a73b7ed62ec15c5326c1b8"
    ),
    "0x7fd500c11216f0fe3095d0c4b8aa4d64a4e2e04f83758462f2b127255643615::thl_coin::THL": (
        "0x377adc4848552eb2ea17259be928001923efe12271fef1667e2b784f04a7cf3a"
    ),
    "0xe4ccb6d39136469f376242c31b34d10515c8eaaa38092f804db8e08a8f53c5b2::assets_v1::EchoCoin002": (
        "0x0009da434d9b873b5159e8eeed70202ad22dc075867a7793234fbc981b63e119"
    ),
    "0x31a6675cbe84365bf2b0cbce617ece6c47023ef70826533bde5203d32171dc3c::swap::LPToken<0x1::aptos_coin::AptosCoin, "
    "0xf22bede237a07e121b56d91a491eb7bcdfd1f5907926a9e58338f964a01b17fa::asset::USDC>": (
        "0xfd1f22b455e2d095a1ec497ecc0a11db86173d0271557ca6c16baa9d66466a75"
    ),
}

# Owner, metadata object and primary store as block 477445097 of mainnet has them, version 3665938237 in it.
STORES = [
    (
        "0x5f9f8c58245aa43b289da4662079a38eab09f4d2f838918337995ad6951fa452",
        "0x43782fca70e1416fc0c75954942dadd4af8d305a608b6153397ad5801b71e72d",
        "0x1f90b383d8731a29cd84d2cdbb1a6b5818e975fdd9f1bd6db35ff8c1f263306f",
    ),
    (
        "0xcff3f102c7aaed500afa51d94d74f3b9f7e7b8e5a399fee14b60ac2211f97f1b",
        APT_METADATA,
        "0xaa2a14d25a92e322b40859320e6f4ee6ff90a96e1415bcd108df58184a5a658d",
    ),
]


def test_an_address_has_one_spelling() -> None:
    for spelling in (LONG, LONG.upper().replace("X", "x")):
        assert formats.parse_address(CHAIN, spelling) == LONG
    assert formats.parse_address(CHAIN, "0x1") == "0x" + "1".rjust(64, "0")
    assert (
        formats.parse_address(CHAIN, "0xA") == formats.parse_address(CHAIN, "0x" + "a".rjust(64, "0")) == APT_METADATA
    )


@pytest.mark.parametrize(
    "text",
    [
        "",
        "0x",
        LONG[2:],
        LONG[:-1],
        # Without its leading zero, as nodes spell it: not to be told from one that lost its last digit.
        "0x" + LONG[3:],
        LONG + "0",
        LONG + "\n",
        " " + LONG,
        "0X" + LONG[2:],
        "0x10",
        "0x" + "g" * 64,
        "0x" + "\u0660" * 64,
        "0x52908400098527886E0F7030069857D2E4169EE7",
        "name.apt",
    ],
)
def test_what_is_no_address_is_refused(text: str) -> None:
    with pytest.raises(InvalidRequestError) as caught:
        formats.parse_address(CHAIN, text)
    assert caught.value.field == "address"


def test_a_transaction_has_one_spelling() -> None:
    assert formats.parse_chain_tx(CHAIN, LONG) == formats.parse_chain_tx(CHAIN, LONG[2:].upper()) == LONG
    for text in ("", LONG[:-1], LONG + "0", "0x" + LONG, LONG.replace("0", "o")):
        with pytest.raises(InvalidRequestError) as caught:
            formats.parse_chain_tx(CHAIN, text)
        assert caught.value.field == "chain_tx"


def test_what_aptos_lacks_is_refused() -> None:
    assert formats.tells_payer(CHAIN)
    assert not formats.takes_tags(CHAIN) and not formats.derives(CHAIN)
    with pytest.raises(InvalidRequestError, match="no tag"):
        formats.parse_tag(CHAIN, "7")
    with pytest.raises(InvalidRequestError, match="no tag"):
        formats.new_tag(CHAIN)
    secret = "ed25519-priv-0x" + "11" * 32
    with pytest.raises(InvalidRequestError, match="pool") as caught:
        formats.check_extended_key(CHAIN, secret)
    assert secret not in str(caught.value)
    with pytest.raises(InvalidRequestError, match="pool"):
        formats.derive(CHAIN, secret, 0)
    assert formats.payment_uri(CHAIN, LONG, asset=f"{CHAIN}/slip44:637", scale=8, units=5) is None


@pytest.mark.parametrize(("coin_type", "metadata"), PAIRS.items())
def test_a_coin_is_paired_with_the_asset_that_mainnet_paired_it_with(coin_type: str, metadata: str) -> None:
    assert paired_metadata(coin_type) == metadata


@pytest.mark.parametrize(("owner", "metadata", "store"), STORES)
def test_a_primary_store_lies_where_mainnet_has_it(owner: str, metadata: str, store: str) -> None:
    assert primary_store(owner, metadata) == store


@pytest.mark.parametrize("coin_type", PAIRS)
def test_a_coins_reference_is_in_the_letters_of_caip_19_and_can_be_read_back(coin_type: str) -> None:
    reference = coin_reference(coin_type)
    assert all(letter.isascii() and (letter.isalnum() or letter in "-.%") for letter in reference)
    assert asset_coin_type(reference) == coin_type


@pytest.mark.parametrize(
    "reference",
    [
        "0x1::aptos_coin::AptosCoin",
        "0x1%3a%3aaptos%5fcoin%3a%3aAptosCoin",
        "0x01%3A%3Aaptos%5Fcoin%3A%3AAptosCoin",
        "0x1%3A%3Aaptos_coin%3A%3AAptosCoin",
        "0x1%3A%3AAptosCoin",
        "1%3A%3Acoin%3A%3AT",
        "0x1%3A%3A%C3%A4%3A%3AT",
        "",
    ],
)
def test_a_coins_reference_has_one_spelling(reference: str) -> None:
    assert asset_coin_type(reference) is None


def test_a_metadata_object_has_one_spelling() -> None:
    assert asset_metadata(LONG) == LONG
    assert asset_metadata(LONG.upper()) is asset_metadata("0xa") is asset_metadata(LONG + "0") is None
