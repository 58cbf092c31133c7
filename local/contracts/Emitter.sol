// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.20;

interface IERC20 {
    function transfer(address to, uint256 value) external returns (bool);
}

/// What a fraud, or an odd but honest contract, can put on the chain. It moves nothing unless it says so.
contract Emitter {
    event Transfer(address indexed from, address indexed to, uint256 value);

    /// A forged event: claims a payment that never was.
    function forge(address from, address to, uint256 value) external {
        emit Transfer(from, to, value);
    }

    /// Several forged events in one transaction.
    function forgeMany(address from, address[] calldata to, uint256 value) external {
        for (uint256 i = 0; i < to.length; i++) emit Transfer(from, to[i], value);
    }

    /// Really pays several recipients in one transaction, out of this contract's own tokens.
    function spread(IERC20 token, address[] calldata to, uint256 value) external {
        for (uint256 i = 0; i < to.length; i++) require(token.transfer(to[i], value));
    }

    /// Really passes ether on, by an internal call that leaves no log.
    function forward(address payable to) external payable {
        (bool passed,) = to.call{value: msg.value}("");
        require(passed);
    }

    /// The shape of an ERC-721 transfer: the same first topic, four topics, no data.
    function forge721(address from, address to, uint256 id) external {
        bytes32 topic = Transfer.selector;
        assembly {
            log4(0, 0, topic, from, to, id)
        }
    }

    /// Three topics and the right first one, and yet no ERC-20 event: `size` bytes of data, and `dirt` above the
    /// recipient's twenty bytes.
    function malformed(address from, address to, uint256 size, uint96 dirt) external {
        bytes32 topic = Transfer.selector;
        assembly {
            let data := mload(0x40)
            mstore(data, 1000)
            log3(data, size, topic, from, or(to, shl(160, dirt)))
        }
    }

    function fail() external payable {
        revert("as asked");
    }
}
