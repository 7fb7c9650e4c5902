"""The queue in Redis. A message holds the id of a job and says no more than: look at the table."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from celery import Celery
from kombu import Queue
from kombu.exceptions import OperationalError

TASK_NAME = "sightline.run_job"
QUEUE_NAME = "sightline.jobs"


def create_celery(redis_url: str, *, timeout_s: float = 2.0) -> Celery:
    """Return the Celery application that publishers and workers share; connects at first use."""
    app = Celery("sightline", broker=redis_url, set_as_current=False)
    app.conf.update(
        task_default_queue=QUEUE_NAME,
        # A wake-up is spent when it is taken. Acknowledging would protect a message that protects nothing,
        # and one whose acknowledgement Redis missed would keep its worker from taking another.
        task_queues=[Queue(QUEUE_NAME, no_ack=True)],
        task_ignore_result=True,  # results stand in the job's row
        task_serializer="json",
        accept_content=["json"],
        task_acks_late=False,
        worker_prefetch_multiplier=1,
        broker_connection_retry=True,
        broker_connection_retry_on_startup=True,
        broker_connection_max_retries=None,  # for ever: Redis may be away for as long as it likes
        broker_connection_timeout=timeout_s,
        broker_transport_options={
            "socket_connect_timeout": timeout_s,
            "socket_timeout": 10.0,  # of a command whose reply never comes; BRPOP itself waits 1 s
            "socket_keepalive": True,
            "health_check_interval": 10,
        },
        worker_cancel_long_running_tasks_on_connection_loss=False,  # training does not need Redis
        worker_send_task_events=False,
        worker_hijack_root_logger=False,
        worker_redirect_stdouts=False,
        enable_utc=True,
    )
    return app


class BrokerAway(Exception):
    """Redis did not take or answer what it was sent. Nothing is lost by it; the table knows."""


class WakeUps:
    """Sends wake-ups and sees how many lie in the queue. Safe to use from several threads."""

    def __init__(self, redis_url: str, *, timeout_s: float = 2.0) -> None:
        self._app = create_celery(redis_url, timeout_s=timeout_s)
        self._app.conf.broker_transport_options |= {"socket_timeout": timeout_s}

    def publish(self, job_id: str) -> None:
        """Send the wake-up for one job. Raises BrokerAway, at the latest after twice the timeout."""
        with self._channel() as channel:
            self._app.send_task(
                TASK_NAME,
                args=[job_id],
                producer=self._app.amqp.Producer(channel),
                queue=QUEUE_NAME,
                retry=False,
                ignore_result=True,
            )

    def waiting(self) -> int:
        """Return how many wake-ups lie in the queue. Raises BrokerAway."""
        with self._channel() as channel:
            return int(Queue(QUEUE_NAME, channel=channel).queue_declare().message_count)

    @contextmanager
    def _channel(self) -> Iterator[Any]:
        # A connection per call costs some milliseconds and leaves none that Redis' restart could spoil.
        connection = self._app.connection_for_write()
        gone = (OperationalError, OSError, *connection.connection_errors, *connection.channel_errors)
        try:
            # Once more at once and no pause: a caller waits, and the reconciler tries again anyway.
            connection.ensure_connection(max_retries=1, interval_start=0, interval_step=0)
            with connection, connection.channel() as channel:
                yield channel
        except gone as error:
            raise BrokerAway(f"Redis at {connection.as_uri()} does not answer: {error}") from error
