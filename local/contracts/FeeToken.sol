// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.20;

import "./TestToken.sol";

/// An ERC-20 that keeps a part of every transfer: the recipient gets less than the payer sent.
contract FeeToken is TestToken {
    uint256 public immutable feeBasisPoints;
    address public immutable collector;

    constructor(string memory name_, string memory symbol_, uint8 decimals_, uint256 supply, uint256 feeBasisPoints_)
        TestToken(name_, symbol_, decimals_, supply)
    {
        require(feeBasisPoints_ <= 10_000);
        feeBasisPoints = feeBasisPoints_;
        collector = msg.sender;
    }

    function _transfer(address from, address to, uint256 value) internal override {
        uint256 fee = value / 10_000 * feeBasisPoints + value % 10_000 * feeBasisPoints / 10_000;
        _move(from, to, value - fee);
        _move(from, collector, fee);
    }
}
