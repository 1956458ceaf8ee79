"""Logging in and out: a cookie for the page, in place of a key that scripts could read."""

import hmac
import secrets
from urllib.parse import urlsplit

from fastapi import Request
from fastapi.responses import JSONResponse, Response

from pochade.jobs import accounts
from pochade.server.desk import Desk
from pochade.server.guard import COOKIE, Trouble, cookie_of

LASTS_S = 30 * 24 * 3600


async def login(desk: Desk, request: Request, key: str) -> Response:
    """A session for whoever has this key. Raises Trouble."""
    client = request.client.host if request.client is not None else "unknown"
    if not desk.keys:
        return JSONResponse({"user": request.state.owner})
    owner = desk.door.owner(key, client)
    if owner is None:
        raise Trouble(401, "unauthorized", "this key opens nothing here", "key")
    token = secrets.token_urlsafe(32)
    until = desk.clock() + LASTS_S
    await desk.ask(accounts.open_session, token, owner, desk.keys.proof(owner), until)
    response = JSONResponse({"user": owner})
    response.set_cookie(
        COOKIE,
        token,
        max_age=LASTS_S,
        httponly=True,
        samesite="strict",
        secure=urlsplit(str(request.url)).scheme == "https",
    )
    return response


async def logout(desk: Desk, request: Request) -> Response:
    token = cookie_of(request.headers)
    if token is not None:
        desk.sessions.pop(token, None)
        await desk.ask(accounts.close_session, token, desk.clock())
    response = JSONResponse({"user": None if desk.keys else request.state.owner})
    response.delete_cookie(COOKIE, httponly=True, samesite="strict")
    return response


async def owner_of(desk: Desk, token: str) -> str | None:
    """Who logged in and got this cookie, if that still counts."""
    known = desk.sessions.get(token)
    if known is None:
        known = await desk.ask(accounts.session, token, desk.clock())
        if known is None:
            return None
        if len(desk.sessions) > 1000:
            desk.sessions.clear()
        desk.sessions[token] = known
    owner, proof = known
    return owner if hmac.compare_digest(proof, desk.keys.proof(owner)) else None
