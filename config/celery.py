"""Celery's settings, each with the reason why it is not left to its default.

PostgreSQL owns the jobs; a message only carries ids. So no setting here protects a job: they keep workers awake,
stop them cleanly, and keep a second opinion about retries out of Celery.
"""

from ssl import CERT_REQUIRED

from kombu import Queue

from config import settings
from config.queues import QUEUES

broker_url = str(settings.servers().redis_url)
# The broker can be away at boot, and come back at any time: wait for it for ever.
broker_connection_retry_on_startup = True
broker_connection_max_retries = None
# A channel error (such as a Redis that has become read-only in a failover) must not end the consumer.
broker_channel_error_retry = True
# Our own transport class hides the scheme from kombu, which would then speak plain text to a rediss:// address.
broker_use_ssl = {"ssl_cert_reqs": CERT_REQUIRED} if broker_url.startswith("rediss://") else None
broker_transport_options = {
    # Longer than any time limit in config.queues: a message that is still being worked on is not delivered again.
    # It may be short beyond that, because the sweeper and not the broker brings work back.
    "visibility_timeout": 3_600,
    # A consumer must notice a connection that died without a word (a restarted Redis behind a NAT).
    "socket_timeout": 10,
    "socket_connect_timeout": 5,
    "socket_keepalive": True,
    "health_check_interval": 10,
    "retry_on_timeout": True,
    "global_keyprefix": "tallyrail:",
}

task_queues = [Queue(name, routing_key=name) for name in QUEUES]
task_default_queue = "maintenance"
# A queue that config.queues doesn't name is a mistake, not a new queue that nobody reads.
task_create_missing_queues = False

# Ids only, as JSON. Pickle would let whoever reaches Redis run code here.
accept_content = ["json"]
task_serializer = "json"
result_serializer = "json"

# The row is the result. A result backend would be a second, lesser record that grows.
task_ignore_result = True
task_store_errors_even_if_ignored = False
result_backend = None

# Acknowledge when done, so that a parent holds no more than its children work on (prefetch counts what is not yet
# acknowledged). A lost child is not redelivered: its jobs come back by lease, with the attempt counted on the row.
task_acks_late = True
task_acks_on_failure = True
task_acks_on_timeout = True
task_reject_on_worker_lost = False
worker_prefetch_multiplier = 1

# Work in flight outlives a lost broker connection: its transaction is with PostgreSQL.
worker_cancel_long_running_tasks_on_connection_loss = False
# SIGTERM stops taking and finishes what is begun. SIGQUIT gets the same mercy for this many seconds.
worker_soft_shutdown_timeout = 10.0
worker_enable_soft_shutdown_on_idle = False
# Children are replaced now and then: adapters of third parties leak.
worker_max_tasks_per_child = 50_000
worker_max_memory_per_child = 400_000  # KiB
# Events only where Flower reads them: it asks the workers to send them.
worker_send_task_events = False
task_send_sent_event = False
# Logging is ours (config.logging).
worker_hijack_root_logger = False
worker_redirect_stdouts = False
enable_utc = True
timezone = "UTC"
