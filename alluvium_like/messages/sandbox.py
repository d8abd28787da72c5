"""The box: why there is none, and what was not reached from one."""


def not_let_reach(host: str, port: int, reason: str) -> str:
    """Say that something in a box was not let reach a host."""
    return f"not let reach {host}:{port}: {reason}"


def unboxed(problem: str) -> str:
    """Say that what agents write runs without a box, since none can be made."""
    return (
        f"agents and tests run WITHOUT A BOX, with the rights of the daemon: {problem}; to have "
        'none on purpose, set [sandbox].mode = "none"'
    )
