"""The other side of the differential tests: hivex reads and edits the same hives.

    other.py dump HIVE            one line a key and a value, sorted
    other.py edit HIVE EDITS OUT  carries out the lines of EDITS: create, delete, set, unset
"""

import sys

import hivex


def data(length):
    return bytes((at * 7 + length) % 251 for at in range(length))


def dump(hive):
    lines = []
    waiting = [(hive.root(), "")]
    while waiting:
        node, path = waiting.pop()
        lines.append(f"{path}\\")
        for value in hive.node_values(node):
            kind, content = hive.value_value(value)
            lines.append(f"{path}\\|{hive.value_key(value)}|{kind}|{content.hex()}")
        for child in hive.node_children(node):
            waiting.append((child, f"{path}\\{hive.node_name(child)}"))
    lines.sort(key=lambda line: line.encode())
    sys.stdout.buffer.write("\n".join(lines).encode())


def find(hive, path):
    node = hive.root()
    for name in filter(None, path.split("\\")):
        node = hive.node_get_child(node, name)
    return node


def edit(hive, edits):
    for line in edits.splitlines():
        what, path, name, kind, length = line.split("\t")
        node = find(hive, path)
        if what == "create":
            if hive.node_get_child(node, name) is None:
                hive.node_add_child(node, name)
        elif what == "delete":
            hive.node_delete_child(node)
        elif what == "set":
            hive.node_set_value(node, {"key": name, "t": int(kind), "value": data(int(length))})
        elif what == "unset":
            kept = []
            for value in hive.node_values(node):
                if hive.value_key(value).lower() != name.lower():
                    kind, content = hive.value_value(value)
                    kept.append({"key": hive.value_key(value), "t": kind, "value": content})
            hive.node_set_values(node, kept)


if sys.argv[1] == "dump":
    dump(hivex.Hivex(sys.argv[2]))
else:
    opened = hivex.Hivex(sys.argv[2], write=True)
    with open(sys.argv[3], encoding="utf-8") as lines:
        edit(opened, lines.read())
    opened.commit(sys.argv[4])
