// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.20;

import "./TestToken.sol";

/// An ERC-20 that keeps a part of every transfer and does not say so: its event tells what was sent, not what arrived.
contract SilentFeeToken is TestToken {
    uint256 public immutable feeBasisPoints;

    constructor(string memory name_, string memory symbol_, uint8 decimals_, uint256 supply, uint256 feeBasisPoints_)
        TestToken(name_, symbol_, decimals_, supply)
    {
        require(feeBasisPoints_ <= 10_000);
        feeBasisPoints = feeBasisPoints_;
    }

    function _transfer(address from, address to, uint256 value) internal override {
        _move(from, to, value);
        uint256 fee = value * feeBasisPoints / 10_000;
        balanceOf[to] -= fee;
        totalSupply -= fee;
    }
}
