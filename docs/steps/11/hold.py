import sqlite3
import time

connection = sqlite3.connect("app.db", isolation_level=None)
connection.execute("BEGIN IMMEDIATE")
time.sleep(8)
connection.execute("ROLLBACK")
