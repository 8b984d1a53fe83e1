"""A Flask application: POST title and abstract, get five journals. flask --app flask_app run"""

import os

from flask import Flask, request

from xuankan import Manuscript, SyncProducer, XuankanError
from xuankan.errors import InputError

app = Flask(__name__)
producer = SyncProducer(os.environ["XUANKAN_REDIS"])  # one for each process; any number of threads


@app.post("/recommend")
def recommend():
    manuscript = Manuscript(request.form.get("title", ""), request.form.get("abstract", ""))
    ranking = producer.rank(manuscript, top_k=5, deadline_s=20, on_full="raise")
    return {"journals": [place.metadata | {"score": place.score} for place in ranking]}


@app.errorhandler(XuankanError)
def no_ranking(error):
    return {"error": str(error)}, 422 if isinstance(error, InputError) else 503
