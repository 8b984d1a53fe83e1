"""A FastAPI application: POST a manuscript as JSON, get five journals. uvicorn fastapi_app:app"""

import os
from contextlib import asynccontextmanager

from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse
from pydantic import BaseModel

from xuankan import Manuscript, Producer, XuankanError
from xuankan.errors import InputError


@asynccontextmanager
async def lifespan(app: FastAPI):
    async with Producer(os.environ["XUANKAN_REDIS"]) as app.state.producer:  # for the life of the process
        yield


app = FastAPI(lifespan=lifespan)


class Paper(BaseModel):
    title: str
    abstract: str = ""


@app.post("/recommend")
async def recommend(paper: Paper):
    manuscript = Manuscript(paper.title, paper.abstract)
    ranking = await app.state.producer.rank(manuscript, top_k=5, deadline_s=20, on_full="raise")
    return {"journals": [{**place.metadata, "score": place.score} for place in ranking]}


@app.exception_handler(XuankanError)
async def no_ranking(request: Request, error: XuankanError):
    return JSONResponse({"error": str(error)}, 422 if isinstance(error, InputError) else 503)
