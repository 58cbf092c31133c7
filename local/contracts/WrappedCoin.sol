// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.20;

/// The chain's own coin as a token, as WETH9 does it: wrapping emits Deposit and unwrapping Withdrawal, not Transfer.
/// With `both` it emits the two events, as some of WETH9's successors do.
contract WrappedCoin {
    string public constant symbol = "WCOIN";
    uint8 public constant decimals = 18;
    bool public immutable both;
    mapping(address => uint256) public balanceOf;

    event Transfer(address indexed from, address indexed to, uint256 value);
    event Deposit(address indexed to, uint256 value);
    event Withdrawal(address indexed from, uint256 value);

    constructor(bool both_) {
        both = both_;
    }

    receive() external payable {
        depositTo(msg.sender);
    }

    function deposit() external payable {
        depositTo(msg.sender);
    }

    function depositTo(address to) public payable {
        balanceOf[to] += msg.value;
        emit Deposit(to, msg.value);
        if (both) emit Transfer(address(0), to, msg.value);
    }

    function withdraw(uint256 value) external {
        balanceOf[msg.sender] -= value;
        emit Withdrawal(msg.sender, value);
        if (both) emit Transfer(msg.sender, address(0), value);
        (bool passed,) = msg.sender.call{value: value}("");
        require(passed);
    }

    function transfer(address to, uint256 value) external returns (bool) {
        balanceOf[msg.sender] -= value;
        balanceOf[to] += value;
        emit Transfer(msg.sender, to, value);
        return true;
    }
}
