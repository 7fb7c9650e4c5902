"""How schemathesis sends the chunks of streams, whose media types it does not know: as the bytes they are."""

import schemathesis
from schemathesis.transport.serialization import serialize_binary

from services.detector.dataplane.streams.formats import READERS


@schemathesis.serializer(*READERS)
def chunk(context: schemathesis.SerializationContext, value: object) -> bytes:
    return serialize_binary(value)
