"""bench/netem's switch over pairs of sockets: where frames go, when, and which are lost. No root, no tap."""

import multiprocessing
import socket
import threading
import time
import types
import unittest

from scripts import load

netem = load("bench/netem")

BROADCAST = b"\xff" * 6


def mac(host):  # as netem gives them: hosts count from 1
    return bytes([2, 0, 0, 0, 0, host])


class Network:
    """A switch that serves, and the hosts' ends of its cables."""

    def __init__(self, n_hosts=3, **shape):
        options = types.SimpleNamespace(**{"shaper": "own", "delay": 0, "loss": 0, "rate": None, "apart": None, **shape})
        pairs = [socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM) for _ in range(n_hosts)]
        self.hosts = [pair[0] for pair in pairs]
        self.taps = [pair[1] for pair in pairs]
        self.switch = netem.Switch([tap.fileno() for tap in self.taps], options)
        self.control, self.far_end = multiprocessing.Pipe()
        self.thread = threading.Thread(target=self.serve)
        self.thread.start()

    def serve(self):
        try:
            self.switch.serve(self.far_end)
        except EOFError:
            pass

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.control.close()
        self.thread.join()
        for end in (*self.hosts, *self.taps, self.far_end):
            end.close()

    def send(self, sender, to, payload=b"hello"):
        self.hosts[sender - 1].send(to + mac(sender) + payload)

    def received(self, host, patience=5.0):
        """The next frame's payload, or None."""
        self.hosts[host - 1].settimeout(patience)
        try:
            return self.hosts[host - 1].recv(65536)[12:]
        except TimeoutError:
            return None

    def counts(self):
        self.control.send("report")
        return self.control.recv()


class Frames(unittest.TestCase):
    def test_go_to_their_address_alone(self):
        with Network() as network:
            network.send(1, mac(3))
            self.assertEqual(network.received(3), b"hello")
            self.assertIsNone(network.received(2, 0.1))
            self.assertRegex(network.counts(), r"^1 frames, 0 lost, 0 dropped")

    def test_to_all_go_to_all_but_the_sender(self):
        with Network() as network:
            network.send(2, BROADCAST)
            self.assertEqual([network.received(1), network.received(3)], [b"hello"] * 2)
            self.assertIsNone(network.received(2, 0.1))

    def test_to_nobody_are_nowhere_and_the_next_goes_on(self):
        with Network() as network:
            network.send(1, mac(9))
            network.send(1, mac(2), b"next")
            self.assertEqual(network.received(2), b"next")

    def test_stay_in_order(self):
        with Network(2, delay=20, rate=50) as network:
            for i in range(50):
                network.send(1, mac(2), bytes([i]))
            self.assertEqual([network.received(2) for _ in range(50)], [bytes([i]) for i in range(50)])

    def test_do_not_pass_between_two_that_are_apart(self):
        with Network(apart={1, 2}) as network:
            network.send(1, mac(2))
            network.send(2, BROADCAST, b"to all")
            network.send(1, mac(3))
            self.assertEqual({network.received(3), network.received(3)}, {b"hello", b"to all"})
            self.assertIsNone(network.received(1, 0.1))
            self.assertIsNone(network.received(2, 0.1))

    def test_are_lost_as_often_as_asked(self):
        with Network(2, loss=100) as network:
            for _ in range(10):
                network.send(1, mac(2))
            end = time.monotonic() + 10
            while not (counts := network.counts()).startswith("0 frames, 10 lost") and time.monotonic() < end:
                time.sleep(0.02)
            self.assertRegex(counts, "^0 frames, 10 lost")
            self.assertIsNone(network.received(2, 0.1))

    def test_are_delayed_by_half_a_round_trip(self):
        with Network(2, delay=400) as network:
            start = time.monotonic()
            network.send(1, mac(2))
            self.assertEqual(network.received(2), b"hello")
            self.assertGreaterEqual(time.monotonic() - start, 0.2)

    def test_take_their_turn_on_the_senders_link_and_on_the_receivers(self):
        with Network(3, rate=1) as network:  # 125 bytes a millisecond
            start = time.monotonic()
            for sender in (1, 2):
                for _ in range(4):
                    network.send(sender, mac(3), bytes(1250 - 12))
            for _ in range(8):
                self.assertEqual(len(network.received(3)), 1250 - 12)
            # One link's first frame, and then all eight over the receiver's: 9 times 10 ms.
            self.assertGreaterEqual(time.monotonic() - start, 0.089)


class Queues(unittest.TestCase):
    def test_that_are_too_long_drop(self):
        switch = netem.Switch([0, 1], types.SimpleNamespace(shaper="own", delay=0, loss=0, rate=1, apart=None))
        frame = bytes(12500)  # 0.1 s
        turns = [switch.take_turn(switch.upward, 0, 5.0, frame) for _ in range(4)]
        self.assertEqual([turn and round(turn, 3) for turn in turns], [5.1, 5.2, 5.3, None])
        self.assertEqual(switch.n_crowded, 1)
        self.assertIsNotNone(switch.take_turn(switch.upward, 1, 5.0, frame))  # each link has its own

    def test_of_tc_hold_what_is_under_way(self):
        words = netem.tc_netem("net0", types.SimpleNamespace(delay=100, loss=1, rate=1000))
        self.assertEqual(words[:9], ["qdisc", "add", "dev", "net0", "root", "netem", "delay", "50.0ms", "loss"])
        self.assertGreaterEqual(int(words[words.index("limit") + 1]), 0.25 * 1e9 / 8 / 1514)


class Cables(unittest.TestCase):
    def test_that_are_pulled_carry_nothing_either_way(self):
        netem_ioctl, netem.fcntl.ioctl = netem.fcntl.ioctl, lambda *_: None  # there is no carrier to take away
        try:
            with Network(2) as network:
                network.control.send("cut")
                network.control.recv()
                network.send(1, mac(2))
                network.send(2, mac(1))
                self.assertIsNone(network.received(2, 0.1))
                self.assertIsNone(network.received(1, 0.1))
        finally:
            netem.fcntl.ioctl = netem_ioctl


if __name__ == "__main__":
    unittest.main()
