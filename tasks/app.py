"""The Celery application: how workers are woken. What they do is in the modules beside this one."""

from celery import Celery

app = Celery("tallyrail", set_as_current=True)
app.config_from_object("config.celery")
