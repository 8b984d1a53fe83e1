"""views.py of a Django application: POST title and abstract, get five journals."""

from django.conf import settings
from django.http import HttpRequest, JsonResponse
from django.views.decorators.http import require_POST

from xuankan import Manuscript, SyncProducer, XuankanError
from xuankan.errors import InputError

producer = SyncProducer(settings.XUANKAN_REDIS)  # one for each process; it connects with the first request


@require_POST
def recommend(request: HttpRequest) -> JsonResponse:
    manuscript = Manuscript(request.POST.get("title", ""), request.POST.get("abstract", ""))
    try:
        ranking = producer.rank(manuscript, top_k=5, deadline_s=20, on_full="raise")
    except InputError as error:  # the text cannot be ranked; the message says why
        return JsonResponse({"error": str(error)}, status=422)
    except XuankanError as error:  # queue full, no worker in time, server away
        return JsonResponse({"error": str(error)}, status=503)
    return JsonResponse({"journals": [place.metadata | {"score": place.score} for place in ranking]})
