# moto's S3, one request at a time: its conditional writes are then atomic. Connections are served once they bring
# something: one that brings nothing (a request cancelled after it had connected) keeps no other waiting. Without moto's
# dispatcher, which looks through its 175 services for each request and takes a third of the time.
import gc
import logging
import selectors
import sys

from moto.server import create_backend_app
from werkzeug.serving import make_server

logging.getLogger("werkzeug").setLevel(logging.ERROR)
server = make_server(sys.argv[1], int(sys.argv[2]), create_backend_app("s3"))
gc.freeze()
waiting = selectors.DefaultSelector()
waiting.register(server.socket, selectors.EVENT_READ)
while True:
    for ready, _ in waiting.select():
        if ready.fileobj is server.socket:
            connection, address = server.socket.accept()
            waiting.register(connection, selectors.EVENT_READ, address)
        else:
            waiting.unregister(ready.fileobj)
            server.process_request(ready.fileobj, ready.data)
