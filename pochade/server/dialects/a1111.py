from fastapi import APIRouter
from fastapi.responses import JSONResponse

PREFIX = "/x"


def answer(trouble, request_id):
    return JSONResponse({}, 400)


def router(desk):
    return APIRouter()
