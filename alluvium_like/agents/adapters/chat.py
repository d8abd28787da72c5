"""chat: one request to an OpenAI-compatible service, by a program of our own."""

from collections.abc import Mapping, Sequence

from alluvium_like.agents.adapters.base import Call, Invocation, Login
from alluvium_like.agents.adapters.own import Own
from alluvium_like.agents.adapters.providers import hosts_at
from alluvium_like.config.agents import model_problem


class Chat(Own):
    """The built-in agent that asks a model once."""

    name = "chat"
    install = "it comes with alluvium-like"
    module = "alluvium_like.agents.chat"

    def invoke(self, call: Call) -> Invocation:
        """Say what is asked where; a model that is not allowed is none of a request's."""
        profile = self.profile
        model = call.model or profile.usual_model
        told = {
            "base-url": profile.base_url,
            "model": model,
            "key": profile.key,
            "problem": model_problem(profile, model),
            "allowance": " ".join(map(str, call.allowance or ())),
        }
        arguments = tuple(f"--{name}={value}" for name, value in told.items() if value)
        return Invocation(arguments, stdin=call.stdin)

    def model_hosts(
        self, environment: Mapping[str, str], arguments: Sequence[str]
    ) -> tuple[str, ...]:
        """Return that of its address."""
        return hosts_at([self.profile.base_url])

    def login(self, environment: Mapping[str, str]) -> Login:
        """Look whether the variable of its key is set."""
        key = self.profile.key
        if not key:
            return Login(None, "no key is sent")
        if environment.get(key):
            return Login(True, f"with {key}")
        return Login(False, f"set {key} where the daemon is started")
