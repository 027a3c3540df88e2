"""Tell a running simulator what to do: phases and faults by SET_PARAMETER, state by GET_PARAMETER."""

import asyncio

from .auth import Credentials, authorization
from .messages import BadMessage, parse_answer_head, parse_parameters, request

_TIMEOUT_S = 5.0


class RemoteError(Exception):
    """The simulator can't be reached or doesn't do that; the text says which, without credentials."""

    user_message = True


async def tell(url: str, parameters: dict[str, str], credentials: Credentials | None = None) -> None:
    """Set parameters of the camera at `url` (rtsp://host:port/name), such as {"phase": "live"}. Raises
    RemoteError.
    """
    body = "".join(f"{name}: {value}\r\n" for name, value in parameters.items())
    await _ask("SET_PARAMETER", url, body, credentials)


async def ask(url: str, names: list[str], credentials: Credentials | None = None) -> dict[str, str]:
    """The state of a camera: `phase`, `viewers`, `frames`, `dropped`, `skipped`. Raises RemoteError."""
    return parse_parameters(await _ask("GET_PARAMETER", url, "".join(f"{n}\r\n" for n in names), credentials))


async def _ask(method: str, url: str, body: str, credentials: Credentials | None) -> bytes:
    try:
        async with asyncio.timeout(_TIMEOUT_S):
            return await _talk(method, url, body, credentials)
    except (OSError, TimeoutError, asyncio.IncompleteReadError, BadMessage) as error:
        raise RemoteError(f"{url}: the camera simulator doesn't answer ({type(error).__name__})") from error


async def _talk(method: str, url: str, body: str, credentials: Credentials | None) -> bytes:
    host, _, port = url.removeprefix("rtsp://").partition("/")[0].rpartition(":")
    reader, writer = await asyncio.open_connection(host.strip("[]"), int(port))
    try:
        headers = [("CSeq", "1"), ("Content-Type", "text/parameters")]
        writer.write(request(method, url, headers, body))
        status, said, answer = await _answer(reader)
        if status == 401 and credentials:
            challenge = next((value for name, value in said if name == "www-authenticate"), "")
            headers.append(("Authorization", authorization(challenge, method, url, credentials)))
            writer.write(request(method, url, headers, body))
            status, said, answer = await _answer(reader)
        if status != 200:
            raise RemoteError(
                f"{url}: the camera simulator answered {status} {answer.decode().strip()}".rstrip()
            )
        return answer
    finally:
        writer.close()


async def _answer(reader: asyncio.StreamReader) -> tuple[int, list[tuple[str, str]], bytes]:
    status, headers = parse_answer_head(await reader.readuntil(b"\r\n\r\n"))
    length = int(dict(headers).get("content-length", "0"))
    return status, headers, await reader.readexactly(length)
