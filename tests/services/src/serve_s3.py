# moto's S3, one request at a time: its conditional writes are then atomic. Without moto's dispatcher, which looks
# through its 175 services for each request and takes a third of the time.
import logging
import sys

from moto.server import create_backend_app
from werkzeug.serving import run_simple

logging.getLogger("werkzeug").setLevel(logging.ERROR)
host, port = sys.argv[1], int(sys.argv[2])
run_simple(host, port, create_backend_app("s3"), threaded=False)
