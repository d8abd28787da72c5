"""Commands about agents: which there are, whether one works, what they used."""

from typing import TYPE_CHECKING, Annotated, Literal

import typer

from alluvium_like.cli.common import JsonOption, workspace
from alluvium_like.cli.plain import print_json, printable

if TYPE_CHECKING:
    from alluvium_like.surface.agents import Agent

AgentArgument = Annotated[
    str, typer.Argument(metavar="NAME", help="The name of an agent, as 'agents' lists them.")
]


def register(app: typer.Typer) -> None:
    """Add this group's commands."""
    group = typer.Typer(
        help="The agents of config.toml: what was found of them here, and whether they work.",
        invoke_without_command=True,
        rich_markup_mode=None,
    )
    group.callback()(list_agents)
    group.command("test")(run_test)
    app.add_typer(group, name="agents")
    app.command()(usage)


def list_agents(context: typer.Context, as_json: JsonOption = False) -> None:
    """List the agents of config.toml: program, version, login, and whether one is parked."""
    if context.invoked_subcommand is not None:
        return
    from alluvium_like.surface.agents import read_agents

    found = read_agents(workspace())
    if as_json:
        print_json([agent.document() for agent in found])
        return
    for agent in found:
        if agent.configured:
            _print_agent(agent)
    print("presets that config.toml does not use:")
    for agent in found:
        if not agent.configured:
            here = agent.version or agent.path or f"not found: {agent.install}"
            print(printable(f"  {agent.name:<16} {here}{'' if agent.proven else ' (unproven)'}"))


def _print_agent(agent: "Agent") -> None:
    mark = "*" if agent.chosen else " "
    print(f"{mark} {agent.name:<16} {agent.preset or 'command':<16} {agent.version}".rstrip())
    if agent.path:
        print(printable(f"    program   {agent.path}"))
    else:
        hint = f": {agent.install}" if agent.install else ""
        print(printable(f"    program   {agent.program} was not found{hint}"))
    if agent.login.ready is not None:
        ready = "can log in" if agent.login.ready else "cannot log in"
        print(printable(f"    login     {ready}: {agent.login.words}"))
    if not agent.proven:
        print("    unproven  nobody has run this preset; what it prints may be misread")
    if agent.fallback:
        print(f"    fallback  {agent.fallback}")
    if agent.parked:
        print(printable(f"    parked    until {agent.parked.until}: {agent.parked.reason}"))


def run_test(name: AgentArgument, as_json: JsonOption = False) -> None:
    """Let an agent do a one-line task in a scratch repository, and say how it went."""
    from alluvium_like.surface.trial_run import try_agent

    trial = try_agent(workspace(), name)
    if as_json:
        print_json(trial.document())
    else:
        print(f"{name} {'works' if trial.passed else 'does not work'}")
        for line in trial.words:
            print(printable(f"    {line}"))
    if not trial.passed:
        raise typer.Exit(1)


def usage(
    by: Annotated[
        Literal["task", "agent", "day"], typer.Option(help="What is summed up on one line.")
    ] = "agent",
    days: Annotated[
        int, typer.Option(min=0, max=36_500, help="Only what was begun in so many days; 0 for all.")
    ] = 0,
    as_json: JsonOption = False,
) -> None:
    """Show the tokens, cost (US dollars) and time that attempts used."""
    from alluvium_like.surface.usage import read_usage

    found = read_usage(workspace(), by, days)
    if as_json:
        print_json([used.document() for used in found])
        return
    width = max(len(used.name) for used in found)
    print(f"{by:<{width}}  attempts   minutes        read     written    dollars")
    for used in found:
        notes = []
        if used.estimated:
            notes.append(f"{used.estimated:.4f} of it estimated")
        if used.unknown:
            notes.append(f"{used.unknown} attempts of unknown cost")
        print(
            f"{printable(used.name):<{width}}  {used.attempts:>8}  {used.seconds / 60:>8.1f}  "
            f"{used.input_tokens:>10}  {used.output_tokens:>10}  {used.cost:>9.4f}  "
            f"{'; '.join(notes)}".rstrip()
        )
