from ipaddress import ip_address, ip_network
from urllib.parse import urlsplit

import pytest
import requests
from hypothesis import example, given
from hypothesis import strategies as st
from urllib3.util import parse_url

from notifications.webhooks.destination import (
    Destination,
    DestinationRefused,
    Policy,
    check,
    check_address,
    is_refused,
    networks,
    parse,
    parse_own_path,
)

PRODUCTION = Policy()
DEVELOPMENT = Policy(allowed_networks=networks("127.0.0.0/8", "::1/128"))
INTRANET = Policy(allowed_networks=networks("10.20.0.0/16"), own_addresses=networks("10.20.0.7", "203.0.114.7"))


def refusal(url: str, policy: Policy = PRODUCTION) -> str | None:
    """The code with which `url` is refused when it is saved."""
    try:
        check(parse(url), policy)
    except DestinationRefused as refused:
        return refused.code
    return None


# --- The form of a URL -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("url", "normal"),
    [
        ("https://your-app.com/api/webhooks/notifications", "https://your-app.com/api/webhooks/notifications"),
        ("https://hooks.example.com", "https://hooks.example.com/"),
        ("HTTPS://Hooks.Example.COM/Path", "https://hooks.example.com/Path"),
        ("https://hooks.example.com:443/x", "https://hooks.example.com/x"),
        ("https://hooks.example.com:8443/x", "https://hooks.example.com:8443/x"),
        ("https://hooks.example.com/x?token=a%20b&c=d/e?f", "https://hooks.example.com/x?token=a%20b&c=d/e?f"),
        ("https://hooks.example.com?x=1", "https://hooks.example.com/?x=1"),
        ("https://xn--bcher-kva.example/x", "https://xn--bcher-kva.example/x"),
        ("https://my_service.example/x", "https://my_service.example/x"),
        ("https://intranet/x", "https://intranet/x"),
        ("https://1.example/x", "https://1.example/x"),
        ("https://93.184.216.34/x", "https://93.184.216.34/x"),
        ("https://[2606:4700:0000::1111]:8443/x", "https://[2606:4700::1111]:8443/x"),
        ("https://a.test/.well-known/x..y/...", "https://a.test/.well-known/x..y/..."),
    ],
)
def test_a_good_url_is_brought_to_its_normal_form(url, normal):
    assert parse(url).url == normal
    assert parse(normal) == parse(url)
    assert refusal(url) is None


# Every quirk of the list, and the rest of the family. What each would be to a careless parser stands behind it.
@pytest.mark.parametrize(
    ("url", "code"),
    [
        ("", "url_missing"),
        ("https://a.test/" + "x" * 2000, "url_too_long"),
        # Characters that parsers disagree about.
        (r"http://a.test\@127.0.0.1/", "url_characters"),  # 127.0.0.1 to requests, a.test to browsers
        (r"https://127.0.0.1\.a.test/", "url_characters"),
        (r"/\evil.test", "url_characters"),  # evil.test to browsers
        (" https://a.test/", "url_characters"),
        ("https://a.test/ ", "url_characters"),
        ("https://a.test /", "url_characters"),
        ("https://a.te\tst/", "url_characters"),
        ("https://a.te\nst/", "url_characters"),
        ("https://a.test/\r\nX-Injected: 1", "url_characters"),
        ("https://a.test/\0", "url_characters"),
        ("https://127.0.0.1\x00.a.test/", "url_characters"),
        ("https://１２７.０.０.１/", "url_characters"),  # 127.0.0.1 after IDNA mapping
        ("https://bücher.example/", "url_characters"),
        ("https://localho\u017ft/", "url_characters"),  # localhost after case folding
        ("https://a.test\u2044x@127.0.0.1/", "url_characters"),
        ("https://127。0。0。1/", "url_characters"),
        ("https://a.test/%zz", "url_characters"),
        # What is no absolute http or https URL.
        ("//evil.test/x", "url_scheme"),
        ("/api/../admin", "url_scheme"),
        ("a.test/x", "url_scheme"),
        ("https:a.test", "url_scheme"),
        ("https:/a.test", "url_scheme"),
        ("ftp://a.test/", "url_scheme"),
        ("file:///etc/passwd", "url_scheme"),
        ("gopher://a.test/", "url_scheme"),
        ("javascript:alert(1)", "url_scheme"),
        ("httpsx://a.test/", "url_scheme"),
        ("https+unix://%2Fvar%2Frun%2Fdocker.sock/", "url_scheme"),
        # User info, which credentials leak from and hosts hide behind.
        ("https://user:password@a.test/", "url_user_info"),
        ("https://a.test@127.0.0.1/", "url_user_info"),
        ("https://@a.test/", "url_user_info"),
        ("https://a.test:443@127.0.0.1/", "url_user_info"),
        ("https://a.test#@127.0.0.1/", "url_fragment"),
        ("https://a.test/x#part", "url_fragment"),
        # Hosts that are none.
        ("https://", "url_host"),
        ("https:///x", "url_host"),
        ("https://?x", "url_host"),
        ("https://:443/", "url_host"),
        ("https://a..test/", "url_host"),
        ("https://.a.test/", "url_host"),
        ("https://a.test./", "url_host"),
        ("https://-a.test/", "url_host"),
        ("https://a-.test/", "url_host"),
        ("https://*.a.test/", "url_host"),
        ("https://a,b.test/", "url_host"),
        ("https://" + "a" * 64 + ".test/", "url_host"),
        ("https://" + "a." * 130 + "test/", "url_host"),
        ("http://%6c%6f%63alhost/", "url_host"),
        ("https://127.0.0.1%2f.a.test/", "url_host"),
        ("https://a.test:443:443/", "url_host"),
        ("https://[::1/", "url_host"),
        ("https://::1/", "url_host"),
        ("https://[a.test]/", "url_host"),
        ("https://[127.0.0.1]/", "url_host"),
        ("https://[::1].a.test/", "url_host"),
        ("https://[fe80::1%25eth0]/", "url_host"),  # zone ids name our interfaces
        ("https://[fe80::1%eth0]/", "url_characters"),
        ("https://[::1%251]/", "url_host"),
        # Numbers that resolvers read as addresses.
        ("https://0/", "url_host"),
        ("https://127.1/", "url_host"),
        ("https://0x7f.1/", "url_host"),
        ("https://0x7f000001/", "url_host"),
        ("https://2130706433/", "url_host"),
        ("https://0177.0.0.1/", "url_host"),
        ("https://127.0.0.01/", "url_host"),
        ("https://127.0.0.256/", "url_host"),
        ("https://127.0.0.1./", "url_host"),
        ("https://1.2.3.4.5/", "url_host"),
        ("https://a.0x1/", "url_host"),
        # Ports.
        ("https://a.test:0/", "url_port"),
        ("https://a.test:/", "url_port"),
        ("https://a.test:65536/", "url_port"),
        ("https://a.test:0443/", "url_port"),
        ("https://a.test:+443/", "url_port"),
        ("https://a.test:-1/", "url_port"),
        ("https://a.test:x/", "url_port"),
        ("https://a.test:" + "9" * 1000 + "/", "url_port"),
        # Paths that mean another one.
        ("https://a.test/api/../admin", "url_path"),
        ("https://a.test/api/%2E%2e/admin", "url_path"),
        ("https://a.test/./x", "url_path"),
        ("https://a.test/x/..", "url_path"),
    ],
)
@pytest.mark.parametrize("policy", [PRODUCTION, DEVELOPMENT], ids=["production", "development"])
def test_a_bad_url_is_refused_with_its_reason(url, code, policy):
    assert refusal(url, policy) == code


@pytest.mark.parametrize(
    ("url", "code"),
    [
        ("http://a.test/", "https_required"),
        ("https://a.test:22/", "port_refused"),
        ("https://a.test:7999/", "port_refused"),
        ("https://a.test:9000/", "port_refused"),
        ("https://localhost/", "address_refused"),
        ("https://LOCALHOST:8000/", "address_refused"),
        ("https://app.localhost/", "address_refused"),
        ("https://127.0.0.1/", "address_refused"),
        ("https://10.20.1.1/", "address_refused"),
        ("https://169.254.169.254/latest/meta-data/", "address_refused"),
        ("https://[::1]/", "address_refused"),
        ("https://[::ffff:127.0.0.1]/", "address_refused"),
        ("https://[::ffff:a9fe:a9fe]/", "address_refused"),
        ("https://[::127.0.0.1]/", "address_refused"),
        ("https://[64:ff9b::7f00:1]/", "address_refused"),
        ("https://[2002:7f00:1::]/", "address_refused"),
        ("https://a.test/", None),
        ("https://a.test:80/", None),
        ("https://a.test:8000/", None),
        ("https://a.test:8999/", None),
        ("https://93.184.216.34/", None),
    ],
)
def test_production_takes_https_to_public_addresses_on_the_usual_ports(url, code):
    assert refusal(url) == code


@pytest.mark.parametrize(
    ("url", "code"),
    [
        ("http://localhost:3000/hook", None),
        ("http://127.0.0.1:1/hook", None),
        ("http://[::1]:65535/hook", None),
        ("http://[::ffff:127.0.0.1]:5000/hook", None),
        ("https://10.20.1.1/", "address_refused"),
        ("http://93.184.216.34/", "https_required"),
        ("https://93.184.216.34:22/", "port_refused"),
        # A name may resolve into the allow-list: the guard decides when it connects.
        ("http://receiver:3000/hook", None),
    ],
)
def test_an_allow_list_opens_its_networks_and_nothing_else(url, code):
    assert refusal(url, DEVELOPMENT) == code


@pytest.mark.parametrize(
    "path", ["/api/notifications/webhooks/notifications", "/api/webhooks/notifications", "/x", "/x/", "/x.y/_z~-1"]
)
def test_a_path_of_this_application_is_taken(path):
    assert parse_own_path(path) == path


@pytest.mark.parametrize(
    "path",
    [
        *("", "/", "x", "//evil.test/x", "/\\evil.test", "\\/evil.test", "/api/../admin", "/api/./x", "/.."),
        *("/api/%2e%2e/admin", "/x?y=1", "/x#y", "/x//y", "/x y", "/x\n", "/x\ty", " /x", "/ä", "/x@y", "/x:y", "/x;y"),
        *("https://a.test/x", "javascript:alert(1)"),
    ],
)
def test_what_is_no_plain_path_is_refused(path):
    with pytest.raises(DestinationRefused) as caught:
        parse_own_path(path)
    assert caught.value.code == "url_path"


_PIECES = ["a.test", "127.0.0.1", "[::1]", "localhost", "0x7f", "1", ".", ":", "@", "/", "\\", "?", "#", "%", "%2e"]
_PIECES += ["%40", "..", ":80", ":443", "0", " ", "\t", "\n", "１", "。", "ä", "[", "]", "-", "_", "//", "http://"]
_hostile = st.lists(st.sampled_from(_PIECES), min_size=1, max_size=6).map("".join) | st.text(max_size=30)


@given(st.tuples(st.sampled_from(["http://", "https://", "HTTPS://", "//", ""]), _hostile).map("".join))
@example("https://A.test:8443/%7Ex/%c3%a4?q=%zz")
def test_no_parser_reads_an_accepted_url_differently(url):
    """The property behind the list above: what we checked is what requests, urllib3 and Python would call."""
    try:
        ours = parse(url)
    except DestinationRefused:
        return
    prepared = requests.Request("POST", ours.url).prepare().url
    assert prepared is not None
    assert parse(prepared).origin == ours.origin
    for spelling in (url, ours.url, prepared):
        python, urllib3 = urlsplit(spelling), parse_url(spelling)
        default = {"http": 80, "https": 443}[ours.scheme]
        assert (python.scheme, python.port or default) == (ours.scheme, ours.port)
        assert (urllib3.scheme, urllib3.port or default) == (ours.scheme, ours.port)
        assert python.username is None
        assert urllib3.auth is None
        for host in (python.hostname or "", (urllib3.host or "").strip("[]")):
            assert host == ours.host or ip_address(host) == ip_address(ours.host)


def test_a_destination_writes_ipv6_hosts_in_brackets():
    assert Destination("https", "2606:4700::1111", 443, "/x").url == "https://[2606:4700::1111]/x"


def test_a_refusal_passes_through_urllib3_and_requests_unwrapped():
    assert not issubclass(DestinationRefused, OSError | requests.RequestException)


# --- The addresses behind it -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("address", "reason"),
    [
        # First and last of each refused block, and the neighbours outside where they are public.
        *((a, "reserved") for a in ("0.0.0.0", "0.255.255.255")),
        ("1.0.0.0", None),
        ("9.255.255.255", None),
        *((a, "private") for a in ("10.0.0.0", "10.0.0.5", "10.255.255.255")),
        ("11.0.0.0", None),
        ("100.63.255.255", None),
        *((a, "private to a provider") for a in ("100.64.0.0", "100.127.255.255")),
        ("100.128.0.0", None),
        *((a, "loopback") for a in ("127.0.0.1", "127.255.255.255")),
        ("128.0.0.1", None),
        ("168.63.129.15", None),
        ("168.63.129.16", "cloud"),
        ("168.63.129.17", None),
        ("169.253.255.255", None),
        *((a, "link-local") for a in ("169.254.0.0", "169.254.169.254", "169.254.255.255")),
        ("169.255.0.0", None),
        ("172.15.255.255", None),
        *((a, "private") for a in ("172.16.0.0", "172.31.255.255")),
        ("172.32.0.0", None),
        *((a, "reserved") for a in ("192.0.0.0", "192.0.0.9", "192.0.0.255")),
        ("192.0.1.0", None),
        ("192.0.2.1", "not a public address"),
        *((a, "reserved") for a in ("192.31.196.1", "192.52.193.1", "192.88.99.1", "192.175.48.1")),
        *((a, "private") for a in ("192.168.0.0", "192.168.255.255")),
        *((a, "benchmarks") for a in ("198.18.0.0", "198.19.255.255")),
        ("198.20.0.0", None),
        *((a, "not a public address") for a in ("198.51.100.1", "203.0.113.1")),
        ("223.255.255.255", None),
        *((a, "multicast") for a in ("224.0.0.1", "239.255.255.255")),
        *((a, "reserved") for a in ("240.0.0.1", "255.255.255.255")),
        ("8.8.8.8", None),
        # IPv6.
        ("::", "not a public address"),
        ("::1", "loopback"),
        ("::127.0.0.1", "not a public address"),
        ("::ffff:127.0.0.1", "loopback"),
        ("::ffff:169.254.169.254", "link-local"),
        ("::ffff:8.8.8.8", None),
        ("64:ff9b::7f00:1", "tunnel"),
        ("64:ff9b::808:808", "tunnel"),
        ("64:ff9b:1::1", "tunnel"),
        ("100::1", "not a public address"),
        ("1fff:ffff::1", "not a public address"),
        ("2000::1", None),
        *((a, "reserved") for a in ("2001::1", "2001:0:4136:e378::", "2001:20::1", "2001:1ff::1")),
        ("2001:200::1", None),
        ("2001:db8::1", "documentation"),
        ("2001:4860:4860::8888", None),
        *((a, "tunnel") for a in ("2002:7f00:1::", "2002:808:808::1")),
        ("2606:4700::1111", None),
        ("2620:4f:8000::1", "reserved"),
        ("3ffe::1", None),
        ("3fff::1", "documentation"),
        ("3fff:1000::1", None),
        ("3fff:ffff::1", None),
        ("4000::1", "not a public address"),
        ("5f00::1", "not a public address"),
        *((a, "private") for a in ("fc00::1", "fd12:3456::1", "fec0::1")),
        ("fe80::1", "link-local"),
        ("fe80::1%2", "link-local"),
        ("ff02::1", "multicast"),
    ],
)
def test_which_addresses_are_refused_and_why(address, reason):
    found = is_refused(ip_address(address), PRODUCTION)
    assert found is None if reason is None else reason in (found or "")


# The registries' list by itself: whatever the table in the code says, both ends of each network are refused, and where
# a network ends is told to the address.
REFUSED_IPV4 = [
    *("0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "168.63.129.16/32", "169.254.0.0/16", "172.16.0.0/12"),
    *("192.0.0.0/24", "192.0.2.0/24", "192.31.196.0/24", "192.52.193.0/24", "192.88.99.0/24", "192.168.0.0/16"),
    *("192.175.48.0/24", "198.18.0.0/15", "198.51.100.0/24", "203.0.113.0/24", "224.0.0.0/4", "240.0.0.0/4"),
]
REFUSED_IPV6 = [
    *("::/8", "64:ff9b::/96", "64:ff9b:1::/48", "100::/64", "0100::/8", "0200::/7", "0400::/6", "0800::/5", "1000::/4"),
    *("2001::/23", "2001:db8::/32", "2002::/16", "2620:4f:8000::/48", "3fff::/20"),
    *("4000::/3", "6000::/3", "8000::/3", "a000::/3", "c000::/3", "e000::/4", "f000::/5", "f800::/6"),
    *("fc00::/7", "fe00::/9", "fe80::/10", "fec0::/10", "ff00::/8"),
]


@pytest.mark.parametrize("network", [ip_network(text) for text in REFUSED_IPV4 + REFUSED_IPV6], ids=str)
def test_every_network_of_the_list_is_refused_from_its_first_address_to_its_last(network):
    first, last = network[0], network[-1]
    for address in (first, network[network.num_addresses // 2], last):
        # What is mapped is the IPv4 address inside, which may be a public one.
        if getattr(address, "ipv4_mapped", None) is None:
            assert is_refused(address, PRODUCTION), address
    if network.version == 4:
        for address in (first, last):
            for mapped in (f"::ffff:{address}", f"::{address}", f"64:ff9b::{address}"):
                assert is_refused(ip_address(mapped), PRODUCTION), mapped
            octets = int(address).to_bytes(4)
            assert is_refused(ip_address(f"2002:{octets[:2].hex()}:{octets[2:].hex()}::1"), PRODUCTION)


@pytest.mark.parametrize(
    "network",
    [ip_network(text) for text in [*REFUSED_IPV4, "2001::/23", "2001:db8::/32", "2002::/16", "2620:4f:8000::/48"]],
    ids=str,
)
def test_the_neighbours_of_a_refused_network_are_not_refused_with_it(network):
    lists = [ip_network(text) for text in REFUSED_IPV4 + REFUSED_IPV6]
    for number in (int(network[0]) - 1, int(network[-1]) + 1):
        if 0 <= number < 2**network.max_prefixlen:
            neighbour = type(network[0])(number)
            expected = any(neighbour in other for other in lists)
            assert bool(is_refused(neighbour, PRODUCTION)) == expected, neighbour


@given(st.ip_addresses())
def test_nothing_that_python_calls_private_gets_through(address):
    if not address.is_global:
        assert is_refused(address, PRODUCTION)


def test_the_allow_list_lets_its_networks_pass_mapped_or_not():
    assert is_refused(ip_address("10.20.1.1"), INTRANET) is None
    assert is_refused(ip_address("::ffff:10.20.1.1"), INTRANET) is None
    assert is_refused(ip_address("10.21.1.1"), INTRANET) == "private"


def test_our_own_addresses_are_refused_even_inside_the_allow_list():
    for own in ("10.20.0.7", "::ffff:10.20.0.7", "203.0.114.7"):
        assert is_refused(ip_address(own), INTRANET) == "this system's own address"
    assert is_refused(ip_address("203.0.114.8"), INTRANET) is None


def test_a_refused_address_is_named_with_the_name_it_came_from():
    with pytest.raises(DestinationRefused) as caught:
        check_address(ip_address("10.0.0.5"), "https", 443, PRODUCTION, name="hooks.example.com")
    assert caught.value.message == "hooks.example.com resolved to 10.0.0.5, which is private"


def test_http_and_other_ports_are_for_allowed_networks_only_whatever_the_name():
    check_address(ip_address("10.20.1.1"), "http", 5000, INTRANET, name="intranet")
    for scheme, port, code in (("http", 443, "https_required"), ("https", 5000, "port_refused")):
        with pytest.raises(DestinationRefused) as caught:
            check_address(ip_address("93.184.216.34"), scheme, port, INTRANET, name="intranet")
        assert caught.value.code == code


def test_a_port_refusal_says_which_are_allowed():
    with pytest.raises(DestinationRefused, match="port 22 is not allowed; use one of 80, 443, 8000–8999"):
        check(parse("https://a.test:22/"), PRODUCTION)


def test_a_wrong_network_is_named():
    with pytest.raises(ValueError, match=r"10\.0\.0\.1/8"):
        networks("127.0.0.0/8", "10.0.0.1/8")
