"""The wire of Google's Gemini, streamed and whole; the path names the model and the method."""

from model_server.script import Case, Json, Script
from model_server.wire import Answer, Asked, Failure, Stream, sse

KEY_HEADERS = ("x-goog-api-key", "authorization")
_STREAMED = ":streamGenerateContent"
_DETAIL = "type.googleapis.com/google.rpc."


def serves(path: str) -> bool:
    """Tell whether content is asked for."""
    return path.endswith((_STREAMED, ":generateContent"))


def read(path: str, body: Json) -> Asked:
    """Read what is asked; a turn of the history has parts, and a part may be a call."""
    contents: list[Json] = body.get("contents") or []
    parts = [part for content in contents for part in content.get("parts") or ()]
    groups = [group.get("functionDeclarations") or () for group in body.get("tools") or ()]
    return Asked(
        model=path.rpartition("/")[2].partition(":")[0],
        stream=path.endswith(_STREAMED),
        tools={each["name"]: _schema(each) for group in groups for each in group},
        calls=sum("functionCall" in part for part in parts),
        messages=len(contents),
    )


def whole(answer: Answer) -> Json:
    """Return a response that ends its turn."""
    return _response(answer, _part(answer), _finish_reason(answer))


def stream(answer: Answer) -> Stream:
    """Return responses that bring parts, then the one that ends the turn."""
    return Stream(
        opening=[],
        delta=sse(_response(answer, _part(answer))),
        closing=[sse(_response(answer, {"text": ""}, _finish_reason(answer)))],
    )


def failure(script: Script, now: float) -> Failure:
    """Return the body that Google sends: a wrong key is a bad request, a limit tells when to come.

    A quota without a reset is one that the project does not have at all.
    """
    match script.case:
        case Case.UNAUTHORIZED:
            message = "API key not valid. Please pass a valid API key."
            return _failure(
                400,
                "INVALID_ARGUMENT",
                message,
                _detail(
                    "ErrorInfo",
                    reason="API_KEY_INVALID",
                    domain="googleapis.com",
                    metadata={"service": "generativelanguage.googleapis.com"},
                ),
                _detail("LocalizedMessage", locale="en-US", message=message),
            )
        case Case.RATE_LIMITED:
            return _exhausted("GenerateRequestsPerMinutePerProjectPerModel", 10, script.retry_after)
        case Case.QUOTA if script.resets_at is not None:
            wait = max(1, round(script.resets_at - now))
            return _exhausted("GenerateRequestsPerDayPerProjectPerModel", 250, wait)
        case Case.QUOTA:
            return _exhausted("GenerateRequestsPerDayPerProjectPerModel-FreeTier", 0, None)
        case Case.CONTEXT:
            return _failure(
                400,
                "INVALID_ARGUMENT",
                "The input token count (1050001) exceeds the maximum number of tokens allowed "
                "(1048576).",
            )
        case _:
            return _failure(
                500,
                "INTERNAL",
                "An internal error has occurred. Please retry or report in "
                "https://developers.generativeai.google/guide/troubleshooting",
            )


def _schema(declaration: Json) -> Json:
    schema: Json = declaration.get("parametersJsonSchema") or declaration.get("parameters") or {}
    return schema


def _part(answer: Answer) -> Json:
    if answer.call:
        return {"functionCall": {"name": answer.call.tool, "args": answer.call.arguments}}
    return {"text": answer.text}


def _finish_reason(answer: Answer) -> str:
    return "SAFETY" if answer.refused else "STOP"


def _response(answer: Answer, part: Json, finish_reason: str | None = None) -> Json:
    candidate: Json = {"content": {"role": "model", "parts": [part]}, "index": 0}
    if finish_reason:
        candidate["finishReason"] = finish_reason
    usage = answer.usage
    return {
        "candidates": [candidate],
        "usageMetadata": {
            "promptTokenCount": usage.input,
            "cachedContentTokenCount": usage.cached,
            "candidatesTokenCount": usage.output,
            "totalTokenCount": usage.input + usage.output,
        },
        "modelVersion": answer.model,
        "responseId": answer.id,
    }


def _exhausted(quota: str, limit: int, wait: int | None) -> Failure:
    """Return a used-up quota; `wait` in seconds, None where waiting does not help."""
    metric = "generativelanguage.googleapis.com/generate_content_requests"
    retry = f"\nPlease retry in {wait}s." if wait is not None else ""
    violation = {"quotaMetric": metric, "quotaId": quota, "quotaValue": str(limit)}
    details = [_detail("QuotaFailure", violations=[violation])]
    if wait is not None:
        details.append(_detail("RetryInfo", retryDelay=f"{wait}s"))
    return _failure(
        429,
        "RESOURCE_EXHAUSTED",
        "You exceeded your current quota, please check your plan and billing details. For more "
        "information on this error, head to: https://ai.google.dev/gemini-api/docs/rate-limits.\n"
        f"* Quota exceeded for metric: {metric}, limit: {limit}{retry}",
        *details,
    )


def _detail(kind: str, **told: object) -> Json:
    return {"@type": _DETAIL + kind} | told


def _failure(status: int, kind: str, message: str, *details: Json) -> Failure:
    error: Json = {"code": status, "message": message, "status": kind}
    if details:
        error["details"] = list(details)
    return Failure(status, {"error": error})
