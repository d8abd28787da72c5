"""What `status` shows of agents that cannot work."""

from pathlib import Path

from alluvium_like.clock import utc_now
from alluvium_like.store.writer import Store
from alluvium_like.surface.status import read_status
from alluvium_like.workspace import Workspace


def shown(space: Workspace) -> list[str]:
    return sorted(row.agent for row in read_status(space).parked)


async def test_a_parked_agent_is_shown_while_the_configuration_has_it(tmp_path: Path) -> None:
    space = Workspace.at(tmp_path)
    space.make_folders()
    store = await Store.open(space.database)
    for agent, until in (("default", "9999"), ("gone", "9999"), ("other", utc_now())):
        await store.write(
            "park", agent=agent, outcome="quota", reason="used up", until=until, times=1
        )
    await store.close()
    space.config_file.write_text("[agents.other]\n")
    assert shown(space) == ["default"]
    space.config_file.write_text("what is this")
    assert shown(space) == ["default", "gone"], "nobody knows which of them there are"
