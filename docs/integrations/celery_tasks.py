"""A Celery task that ranks one manuscript in the background. celery --app celery_tasks worker"""

import os

from celery import Celery

from xuankan import Manuscript, SyncProducer
from xuankan.errors import QueueFull, ServerUnavailable

app = Celery("portal", broker=os.environ["CELERY_BROKER"], backend=os.environ["CELERY_BROKER"])
producer = SyncProducer(os.environ["XUANKAN_REDIS"])  # survives the fork of Celery's processes


@app.task(bind=True, acks_late=True, autoretry_for=(QueueFull, ServerUnavailable), retry_backoff=True)
def recommend(self, title: str, abstract: str) -> list[dict]:
    # With the task's own id, a task that runs again gets the ranking that the first run asked for.
    ranking = producer.rank(Manuscript(title, abstract), request_id=self.request.id, lane="bulk", top_k=5)
    return [{**place.metadata, "score": place.score} for place in ranking]
