// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.20;

interface IERC20Payer {
    function transfer(address to, uint256 value) external returns (bool);
}

/// Pays many in one transaction, out of its own coin and tokens, as payroll contracts and exchanges do.
contract Payer {
    /// The zero address as a token stands for the chain's own coin: an internal call, which leaves no log.
    function pay(address[] calldata tokens, address[] calldata to, uint256[] calldata values) external payable {
        for (uint256 i = 0; i < to.length; i++) {
            if (tokens[i] == address(0)) {
                (bool passed,) = to[i].call{value: values[i]}("");
                require(passed);
            } else {
                require(IERC20Payer(tokens[i]).transfer(to[i], values[i]));
            }
        }
    }

    receive() external payable {}
}
