"""The agent that asks a model once: prose comes back, and a diff that is applied and committed.

    python -P -m alluvium_like.agents.chat --base-url=URL --model=NAME [--key=VARIABLE] …

The prompt is on the standard input; events are on the standard output. The answer is kept in
outputs/answer.md whatever becomes of it. Where only a person can help (no key, a model that is not
allowed, more than a request may cost), it asks, and ends well. It asks the model no second time.
"""

import argparse
import os
import sys
from typing import Final

from alluvium_like.agents.chat_answer import SYSTEM, diff_in, first_line, question_in
from alluvium_like.agents.chat_material import material
from alluvium_like.agents.chat_request import Answer, Question, ask
from alluvium_like.agents.events import End, Failure, FileChange, Message
from alluvium_like.agents.job import Job
from alluvium_like.agents.patches import Effect, Git, GitTrouble, apply_diff, printable
from alluvium_like.agents.telling import Told, exit_code, failed, tell
from alluvium_like.config.own_agents import Allowance

_BYTES_A_TOKEN: Final = 3
"""Fewer than most texts have, so that a request rather costs less than it may."""
_FEWEST_TOKENS: Final = 256
"""A shorter answer is of no use."""
_MILLION: Final = 1_000_000


def main() -> int:
    """Carry out the job that the arguments and the environment describe."""
    told = _arguments()
    try:
        job = Job.told_by(os.environ)
    except KeyError as missing:
        sys.stderr.write(f"{missing.args[0]} is not set: the daemon sets it for its agents\n")
        return 2
    events = _work(job, told, sys.stdin.buffer.read().decode("utf-8", "replace"))
    tell(*events)
    return exit_code(events)


def most_tokens(allowance: Allowance | None, size: int) -> int | None:
    """Return how long an answer may be behind `size` bytes of request, None where it may be any."""
    if allowance is None or not allowance.output:
        return None
    left = allowance.dollars - size / _BYTES_A_TOKEN * allowance.input / _MILLION
    return max(int(left / allowance.output * _MILLION), 0)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Ask a model once, and do what it answers.")
    parser.add_argument("--base-url", required=True)
    parser.add_argument("--model", required=True)
    parser.add_argument("--key", default="", help="the name of a variable")
    parser.add_argument("--problem", default="", help="why nothing can be asked")
    parser.add_argument("--allowance", default="", help="dollars, and prices of a million tokens")
    return parser.parse_args()


def _work(job: Job, told: argparse.Namespace, prompt: str) -> Told:
    key = os.environ.get(told.key, "").strip() if told.key else ""
    if told.problem:
        return _ask(job, f"{told.problem}.", "change config.toml or the task's model")
    if told.key and not key:
        words = f"The key is missing: the environment variable {told.key} is not set."
        return _ask(job, words, f"set {told.key} where the daemon is started, and start it again")
    try:
        tree = _Tree(job)
        question = _question(job, tree, told, key, prompt)
        if isinstance(question, str):
            return _ask(job, question, "raise 'max_budget' or 'intensity', or drop less")
        answer = ask(question)
        if not isinstance(answer, Answer):
            return failed(answer)
        return answer.usage, Message(answer.text or "(no text)"), *_do(job, tree, answer)
    except (OSError, GitTrouble) as error:
        return failed(Failure(f"the chat agent cannot work: {error}"))


class _Tree:
    """The worktree, brought to the commit that an answer is applied to when there is one.

    Where nothing comes of it, it is as it was: a conflict must not look as if it were resolved.
    """

    def __init__(self, job: Job) -> None:
        self.git = Git(job.worktree)
        self._before = self.git.must("rev-parse", "HEAD")
        self._merging = self.git.commit("MERGE_HEAD")
        self.start = self._merging or self._before
        # Made anew on the base, so that no conflict has to be resolved.
        rejected = f"{self._merging}...{self._before}"
        self.rejected = self.git.must("diff", rejected) if self._merging else ""

    def apply(self, diff: bytes, subject: str) -> Effect | str:
        """Apply and commit a diff; return git's own words where it does not apply."""
        self.git.return_to(self.start)
        applied = apply_diff(self.git, diff, subject)
        if isinstance(applied, str):
            self.git.return_to(self._before)
            if self._merging:
                self.git.run("merge", "--no-commit", "--no-ff", "--no-edit", self._merging)
        return applied


def _question(
    job: Job, tree: _Tree, told: argparse.Namespace, key: str, prompt: str
) -> Question | str:
    """Return what is asked, or why that would cost too much."""
    texts = {
        "system": SYSTEM,
        "user": f"{prompt}\n\n{material(job, tree.git, tree.start, tree.rejected)}",
    }
    allowance = Allowance(*map(float, told.allowance.split())) if told.allowance else None
    most = most_tokens(allowance, sum(len(text.encode()) for text in texts.values()))
    if allowance is not None and most is not None and most < _FEWEST_TOKENS:
        return (
            f"What is asked would alone use up the ${allowance.dollars:g} that a request may cost."
        )
    messages = tuple({"role": role, "content": text} for role, text in texts.items())
    return Question(told.base_url, key, told.model, messages, most)


def _do(job: Job, tree: _Tree, answer: Answer) -> Told:
    """Do what was answered."""
    (job.agent_dir / "outputs").mkdir(exist_ok=True)
    job.write("outputs/answer.md", answer.text.rstrip() + "\n")
    if answer.cut_off:
        words = f"The answer was cut off after {answer.usage.output_tokens} tokens."
        return _ask(job, words, "raise 'max_budget' or 'intensity', or ask for less at once")
    if question := question_in(answer.text):
        job.ask("The model asks a person.", question)
        return (End(ok=True),)
    summary, diff = first_line(answer.text), diff_in(answer.text)
    if not diff:
        job.conclude("succeeded", summary, "\nThe whole answer is in outputs/answer.md.\n")
        return (End(ok=True),)
    applied = tree.apply(diff, f"Apply the answer of {answer.usage.model}")
    if isinstance(applied, str):
        words = f"the diff of the answer does not apply: {applied}"
        job.conclude("failed", words)
        return failed(Failure(words))
    names = tree.git.must("diff", "--name-only", "-z", tree.start, "HEAD").split("\0")
    changed = [printable(name) for name in names if name]
    files = "\n".join(f"- `{name}`" for name in changed)
    job.conclude("succeeded", summary, f"\nThe diff of the answer: {applied.value}.\n\n{files}\n")
    return *map(FileChange, changed), End(ok=True)


def _ask(job: Job, words: str, advice: str) -> Told:
    """Put the task to a person, who is to do something and then answers."""
    advice = f"{advice[0].upper()}{advice[1:]}, then answer with any text; or cancel the task."
    job.ask(words, f"{words}\n\n{advice}\n")
    return Message(words), End(ok=True, text=words)


if __name__ == "__main__":
    sys.exit(main())
