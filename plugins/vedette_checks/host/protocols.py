"""The kernel's own counters of IP, TCP and UDP (Linux: /proc/net/snmp and /proc/net/netstat).

Names are those of Datadog's network integration, the meaning of the fields is in the kernel's documentation,
"SNMP counter". psutil does not tell them.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from vedette import Emit, Kind, Metric

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from vedette_checks.host.config import HostConfig

_FIELDS = (
    # group, field, metric under system.net., unit, help
    ("Ip", "InReceives", "ip.in_receives", "datagram", "Datagrams received, faulty ones among them."),
    ("Ip", "InHdrErrors", "ip.in_header_errors", "datagram", "Datagrams dropped for a fault in the header."),
    ("Ip", "InAddrErrors", "ip.in_addr_errors", "datagram", "Datagrams dropped for their destination."),
    ("Ip", "InUnknownProtos", "ip.in_unknown_protos", "datagram", "Datagrams of an unknown protocol."),
    ("Ip", "InDiscards", "ip.in_discards", "datagram", "Faultless datagrams dropped, as for lack of memory."),
    ("Ip", "InDelivers", "ip.in_delivers", "datagram", "Datagrams handed to a protocol."),
    ("Ip", "OutRequests", "ip.out_requests", "datagram", "Datagrams that protocols asked to send."),
    ("Ip", "OutDiscards", "ip.out_discards", "datagram", "Faultless datagrams dropped unsent."),
    ("Ip", "OutNoRoutes", "ip.out_no_routes", "datagram", "Datagrams dropped for want of a route."),
    ("Ip", "ForwDatagrams", "ip.forwarded_datagrams", "datagram", "Datagrams forwarded."),
    ("Ip", "ReasmTimeout", "ip.reassembly_timeouts", "timeout", "Reassemblies given up for time."),
    ("Ip", "ReasmReqds", "ip.reassembly_requests", "", "Fragments received that needed reassembly."),
    ("Ip", "ReasmOKs", "ip.reassembly_oks", "datagram", "Datagrams reassembled."),
    ("Ip", "ReasmFails", "ip.reassembly_fails", "", "Reassemblies that failed."),
    ("Ip", "FragOKs", "ip.fragmentation_oks", "datagram", "Datagrams fragmented."),
    ("Ip", "FragFails", "ip.fragmentation_fails", "", "Datagrams that could not be fragmented."),
    ("Ip", "FragCreates", "ip.fragmentation_creates", "", "Fragments made."),
    ("IpExt", "InNoRoutes", "ip.in_no_routes", "datagram", "Datagrams received for which no route was found."),
    ("IpExt", "InTruncatedPkts", "ip.in_truncated_pkts", "datagram", "Datagrams cut short."),
    ("IpExt", "InCsumErrors", "ip.in_csum_errors", "datagram", "Datagrams with a wrong checksum."),
    ("IpExt", "ReasmOverlaps", "ip.reassembly_overlaps", "datagram", "Fragments that overlapped."),
    ("TcpExt", "IPReversePathFilter", "ip.reverse_path_filter", "packet", "Packets the reverse path filter dropped."),
    ("Tcp", "ActiveOpens", "tcp.active_opens", "connection", "Connections opened from here."),
    ("Tcp", "PassiveOpens", "tcp.passive_opens", "connection", "Connections opened to here."),
    ("Tcp", "AttemptFails", "tcp.attempt_fails", "connection", "Connections that could not be opened."),
    ("Tcp", "EstabResets", "tcp.established_resets", "connection", "Connections reset."),
    ("Tcp", "InErrs", "tcp.in_errors", "packet", "Faulty segments received."),
    ("Tcp", "OutRsts", "tcp.out_resets", "packet", "Resets sent."),
    ("Tcp", "InCsumErrors", "tcp.in_csum_errors", "packet", "Segments with a wrong checksum."),
    ("Tcp", "InSegs", "tcp.in_segs", "segment", "Segments received."),
    ("Tcp", "OutSegs", "tcp.out_segs", "segment", "Segments sent, those sent again excepted."),
    ("Tcp", "RetransSegs", "tcp.retrans_segs", "segment", "Segments sent again."),
    ("TcpExt", "TCPRetransFail", "tcp.failed_retransmits", "packet", "Segments that could not be sent again."),
    ("TcpExt", "ListenOverflows", "tcp.listen_overflows", "", "Connections refused: an accept queue was full."),
    ("TcpExt", "ListenDrops", "tcp.listen_drops", "", "Connections refused by a listening socket for any reason."),
    ("TcpExt", "TCPBacklogDrop", "tcp.backlog_drops", "packet", "Segments dropped: a socket's backlog was full."),
    ("TcpExt", "PruneCalled", "tcp.prune_called", "", "Times a receive buffer ran over and was pruned."),
    ("TcpExt", "RcvPruned", "tcp.prune_rcv_drops", "packet", "Segments dropped: pruning did not help."),
    ("TcpExt", "OfoPruned", "tcp.prune_ofo_called", "", "Times segments out of order were dropped for memory."),
    ("TcpExt", "PAWSActive", "tcp.paws_connection_drops", "packet", "SYN-SENT segments with an old timestamp."),
    ("TcpExt", "PAWSEstab", "tcp.paws_established_drops", "packet", "Segments with an old timestamp."),
    ("TcpExt", "SyncookiesSent", "tcp.syn_cookies_sent", "packet", "SYN cookies sent."),
    ("TcpExt", "SyncookiesRecv", "tcp.syn_cookies_recv", "packet", "SYN cookies received."),
    ("TcpExt", "SyncookiesFailed", "tcp.syn_cookies_failed", "packet", "SYN cookies that were invalid."),
    ("TcpExt", "TCPAbortOnTimeout", "tcp.abort_on_timeout", "", "Connections given up after timeouts."),
    ("TcpExt", "TCPSynRetrans", "tcp.syn_retrans", "", "SYN segments sent again."),
    ("TcpExt", "TCPFromZeroWindowAdv", "tcp.from_zero_window", "", "Times a window grew from zero."),
    ("TcpExt", "TCPToZeroWindowAdv", "tcp.to_zero_window", "", "Times a window shrank to zero."),
    ("TcpExt", "TWRecycled", "tcp.tw_reused", "", "Sockets in TIME-WAIT used again."),
    ("Udp", "InDatagrams", "udp.in_datagrams", "datagram", "Datagrams handed to programs."),
    ("Udp", "NoPorts", "udp.no_ports", "datagram", "Datagrams to a port where nobody listens."),
    ("Udp", "InErrors", "udp.in_errors", "datagram", "Datagrams that could not be handed over."),
    ("Udp", "OutDatagrams", "udp.out_datagrams", "datagram", "Datagrams sent."),
    ("Udp", "RcvbufErrors", "udp.rcv_buf_errors", "error", "Datagrams dropped: a receive buffer was full."),
    ("Udp", "SndbufErrors", "udp.snd_buf_errors", "error", "Datagrams dropped: a send buffer was full."),
    ("Udp", "InCsumErrors", "udp.in_csum_errors", "error", "Datagrams with a wrong checksum."),
)
_CURRENT = "system.net.tcp.current_established"

PROTOCOL_METRICS = (
    *(
        Metric(f"system.net.{name}", Kind.RATE, unit, text, per="second" if unit else "")
        for _, _, name, unit, text in _FIELDS
    ),
    Metric(_CURRENT, Kind.GAUGE, "connection", "Connections established now."),
)


def read_counters(text: str) -> Iterator[tuple[str, list[str], list[str]]]:
    """Group, field names and values of /proc/net/snmp or netstat, which give a line of names and one of values."""
    lines = text.splitlines()
    for names, values in zip(lines[::2], lines[1::2], strict=False):
        group, _, rest = names.partition(":")
        yield group, rest.split(), values.partition(":")[2].split()


class Protocols:
    """Those of `system.net.ip.*`, `system.net.tcp.*` and `system.net.udp.*` that one file tells.

    Args:
        config: the instance's options.
        file: `snmp` or `netstat`.
    """

    def __init__(self, config: HostConfig, file: str) -> None:
        self._file = Path(config.procfs_path, "net", file)
        self._names: dict[str, dict[str, str]] = {}
        for group, field, name, _, _ in _FIELDS:
            self._names.setdefault(group, {})[field] = f"system.net.{name}"

    def collect(self, emit: Emit) -> None:
        """Report each counter that this kernel has.

        Raises:
            OSError: the file cannot be read (some platforms let only root read it).
            ValueError: it has an unknown form.
        """
        for group, fields, values in read_counters(self._file.read_text()):
            wanted = self._names.get(group)
            if wanted:
                self._emit(emit, wanted, dict(zip(fields, values, strict=True)))

    @staticmethod
    def _emit(emit: Emit, wanted: Mapping[str, str], counters: Mapping[str, str]) -> None:
        for field, name in wanted.items():
            if field in counters:
                emit.rate(name, int(counters[field]))
        if "CurrEstab" in counters:
            emit.gauge(_CURRENT, int(counters["CurrEstab"]))
