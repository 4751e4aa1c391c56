//! Part of the first-boot script that reports to the console (docs/protocol.md, First start), as
//! POSIX shell.
//!
//! The message is made once and kept, because the console takes one report and gives repetitions
//! the same answer. A genuine answer is told from a forged one by its HMAC. The key is in the
//! script alone, never in a command line, an environment or the log.

use super::script::quoted;
use crate::error::{Result, StepError};
use std::fmt::Write as _;
use std::net::{IpAddr, SocketAddr};
use template::first_start::{FirstStart, ReportKey};

/// Delay in seconds before each attempt within one start: more than three minutes in total.
const WAITS_SECONDS: [u32; 8] = [0, 5, 10, 20, 30, 40, 50, 60];

/// From this delay (in seconds) on the report is sent even if no card has an address that could
/// reach the console.
const LATE_SECONDS: u32 = 50;

/// Number of machine starts at which the report is tried, the first one included.
pub(super) const STARTS: u32 = 6;

/// Block size of SHA-256 in bytes: an HMAC key is padded to it.
const BLOCK: usize = 64;

/// Shell functions of the script: `report` returns 0 if there is nothing more to try.
pub(super) fn functions(first_start: &FirstStart) -> Result<String> {
    let mut consoles: Vec<SocketAddr> = Vec::new();
    for text in &first_start.consoles {
        let console = text.parse().map_err(|_| {
            StepError::Order(format!("{text:?} is no address of a console to report to"))
        })?;
        if !consoles.contains(&console) {
            consoles.push(console);
        }
    }
    if consoles.is_empty() {
        return Err(StepError::Order(
            "the order names no address of the console to report the first start to".into(),
        ));
    }
    let target = &first_start.target;
    if target.is_empty() || target.len() > 200 || target.contains(char::is_control) {
        return Err(StepError::Order(format!(
            "{target:?} cannot be the id of a target"
        )));
    }
    let target = quoted(target)?;
    let enough = match consoles.iter().any(SocketAddr::is_ipv4) {
        true => "*.*",
        false => "?*",
    };
    let words: Vec<String> = consoles.iter().map(console_word).collect();
    let waits: Vec<String> = WAITS_SECONDS.iter().map(u32::to_string).collect();
    let settings = format!(
        "job={}\ntarget={target}\nconsoles='{}'\nenough='{enough}'\nwaits='{}'\nlate={LATE_SECONDS}\n",
        first_start.job,
        words.join(" "),
        waits.join(" ")
    );
    Ok(format!(
        "{settings}{HASHES}{}{CARDS}{SENDING}",
        hmac(&first_start.key)
    ))
}

/// The words `ADDRESS,PORT` of a console; neither part holds a comma.
fn console_word(console: &SocketAddr) -> String {
    let ip = match console.ip() {
        IpAddr::V6(ip) => ip.to_ipv4_mapped().map_or(IpAddr::V6(ip), IpAddr::V4),
        ip @ IpAddr::V4(_) => ip,
    };
    format!("{ip},{}", console.port())
}

/// Shell function `hmac`, which prints the HMAC-SHA256 (RFC 2104) of its input. The padded keys are
/// computed here, because a shell has no exclusive or for bytes.
fn hmac(key: &ReportKey) -> String {
    let pad = |with: u8| {
        let mut block = [with; BLOCK];
        for (byte, key) in block.iter_mut().zip(key.bytes()) {
            *byte ^= key;
        }
        block.iter().fold(String::new(), |mut text, byte| {
            let _ = write!(text, "\\{byte:03o}");
            text
        })
    };
    format!(
        "\nhmac() {{\n    inner=$({{ printf '{}'; cat; }} | sha256)\n    {{ printf '{}'; bytes \"$inner\"; }} | sha256\n}}\n",
        pad(0x36),
        pad(0x5c)
    )
}

/// Shell functions `sha256` and `bytes`.
const HASHES: &str = r#"
# The hash of its input, by the program that $digester names.
sha256() {
    case $digester in
    sha256sum) sha256sum ;;
    busybox) busybox sha256sum ;;
    openssl) openssl dgst -sha256 -r ;;
    esac 2>/dev/null | cut -c1-64
}

# The bytes of HEX.
bytes() {
    rest=$1
    out=
    while [ -n "$rest" ]; do
        tail=${rest#??}
        out="$out\\$(printf '%03o' "0x${rest%"$tail"}")"
        rest=$tail
    done
    printf "$out"
}
"#;

/// Shell function `address_lines`: the machine's cards and their addresses.
const CARDS: &str = r#"
proc=/proc
cards=/sys/class/net
machine_id=/etc/machine-id
cloud=/run/cloud-init

# A card that is a device, or that lies over one: bonds, bridges, VLANs. Not lo, docker0, veth.
real() {
    for at in "$cards/$1"/device "$cards/$1"/lower_*/device "$cards/$1"/lower_*/lower_*/device \
        "$cards/$1"/lower_*/lower_*/lower_*/device; do
        if [ -e "$at" ]; then
            return 0
        fi
    done
    return 1
}

# CARD ADDRESS/BITS, by the program that is given.
by_program() {
    "$@" -o addr show scope global 2>/dev/null | while read -r _ card family address _; do
        case "$family $address" in
        'inet '*/* | 'inet6 '*/*) echo "${card%%@*} $address" ;;
        esac
    done
}

# The same from the kernel's own tables: its addresses, and which card has the network they are in.
by_kernel() {
    if [ -r "$proc/net/fib_trie" ]; then
        while read -r first second third _; do
            case "$first $third" in
            '|-- ') last=$second ;;
            '/32 LOCAL') echo "$last" ;;
            esac
        done <"$proc/net/fib_trie" | sort -u | while IFS=. read -r a b c d; do
            case $a.$b in
            127.* | 169.254) continue ;;
            esac
            value=$((d << 24 | c << 16 | b << 8 | a))
            while read -r card network gateway _ _ _ _ mask _; do
                if [ "$gateway" = 00000000 ] && [ "$mask" != 00000000 ] && [ $((value & 0x$mask)) -eq $((0x$network)) ]; then
                    bits=0
                    left=$((0x$mask))
                    while [ "$left" -ne 0 ]; do
                        bits=$((bits + (left & 1)))
                        left=$((left >> 1))
                    done
                    echo "$card $a.$b.$c.$d/$bits"
                    break
                fi
            done <"$proc/net/route"
        done
    fi
    if [ -r "$proc/net/if_inet6" ]; then
        while read -r digits _ bits scope _ card; do
            if [ "$scope" = 00 ]; then
                echo "$card $(echo "$digits" | sed 's/..../&:/g; s/:$//')/$((0x$bits))"
            fi
        done <"$proc/net/if_inet6"
    fi
}

address_lines() {
    found=$(by_program ip)
    if [ -z "$found" ]; then
        found=$(by_program busybox ip)
    fi
    if [ -z "$found" ]; then
        found=$(by_kernel)
    fi
    echo "$found" | while read -r card address; do
        if [ -n "$address" ] && real "$card"; then
            mac=$(cat "$cards/$card/address" 2>/dev/null)
            case $mac in
            ??:??:??:??:??:??) echo "address=$mac $address" ;;
            esac
        fi
    done | head -n 16
}
"#;

/// Shell function `report` and the functions it sends with.
const SENDING: &str = r#"
# cloud-init sets the name: its last stage is waited for where there is one, but not for ever.
settle() {
    waited=0
    while [ -e "$cloud/enabled" ] && [ ! -e "$cloud/result.json" ] && [ "$waited" -lt 60 ]; do
        waited=$((waited + 1))
        sleep 5
    done
}

# Makes the message. A cut leaves none, or a whole one.
message() {
    {
        printf 'diskcast-first-start 1\njob=%s\ntarget=%s\n' "$job" "$target"
        cat "$folder/report/outcome"
        name=$(LC_ALL=C tr -cd '!-~' <"$proc/sys/kernel/hostname" | cut -c1-200)
        printf 'name=%s\nsystem=linux\n' "${name%%.*}"
        id=$(cat "$machine_id" 2>/dev/null)
        case $id in
        '' | *[!0-9a-f]*) ;;
        *) printf 'machine-id=%s\n' "$id" ;;
        esac
        if [ -n "$1" ]; then
            printf '%s\n' "$1"
        fi
    } >"$folder/report/message.new"
    mac=$(hmac <"$folder/report/message.new")
    printf 'hmac=%s\n' "$mac" >>"$folder/report/message.new"
    sync
    mv "$folder/report/message.new" "$folder/report/message"
    sync
}

has() {
    case $1 in
    busybox) busybox --list 2>/dev/null | grep -qx nc ;;
    *) command -v "$1" >/dev/null 2>&1 ;;
    esac
}

# send WAY ADDRESS PORT: the input goes to the console, its answer to the output.
send() {
    case $1 in
    bash) timeout 15 bash -c 'exec 3<>"/dev/tcp/$0/$1" && cat >&3 && head -c 128 <&3' "$2" "$3" ;;
    nc) timeout 15 nc -w 10 "$2" "$3" ;;
    busybox) timeout 15 busybox nc -w 10 "$2" "$3" ;;
    python3) timeout 15 python3 -c '
import socket, sys
console = socket.create_connection((sys.argv[1], int(sys.argv[2])), 10)
console.sendall(sys.stdin.buffer.read())
answer = b""
while len(answer) < 128:
    part = console.recv(128)
    if not part:
        break
    answer += part
sys.stdout.buffer.write(answer)' "$2" "$3" ;;
    perl) timeout 15 perl -e '
my $class = eval { require IO::Socket::IP; 1 } ? "IO::Socket::IP" : do { require IO::Socket::INET; "IO::Socket::INET" };
my $console = $class->new(PeerHost => $ARGV[0], PeerPort => $ARGV[1], Proto => "tcp", Timeout => 10) or exit 1;
local $/;
my $message = <STDIN>;
$console->syswrite($message);
while ($console->sysread(my $part, 128)) { syswrite STDOUT, $part; }' "$2" "$3" ;;
    socat)
        case $2 in
        *:*) timeout 15 socat -t 10 - "TCP6:[$2]:$3" ;;
        *) timeout 15 socat -t 10 - "TCP4:$2:$3" ;;
        esac
        ;;
    esac 2>/dev/null | head -c 128
}

# True when there is nothing more to try: heard, refused, or nothing here could ever report.
report() {
    # Only a builtin keeps the key out of a command line.
    if [ "$(command -v printf)" != printf ]; then
        note 'the shell has no printf of its own: the first start is not reported'
        return 0
    fi
    for digester in sha256sum busybox openssl none; do
        if [ "$(sha256 </dev/null)" = e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855 ]; then
            break
        fi
    done
    ways=
    for way in bash nc busybox python3 perl socat; do
        if has "$way"; then
            ways="$ways $way"
        fi
    done
    if [ "$digester" = none ] || [ -z "$ways" ]; then
        note 'the first start is not reported: that needs sha256sum or openssl, and one of bash, nc, busybox, python3, perl, socat'
        return 0
    fi
    settle
    for pause in $waits; do
        sleep "$pause"
        if [ ! -e "$folder/report/message" ]; then
            lines=$(address_lines)
            case $lines in
            $enough) ;;
            *)
                if [ "$pause" -lt "$late" ]; then
                    continue
                fi
                ;;
            esac
            message "$lines"
        fi
        mac=$(sed -n 's/^hmac=//p' "$folder/report/message")
        want=$(printf '%sheard' "$mac" | hmac)
        # One way may be there and not work: the next try takes the next one.
        set -- $ways
        way=$1
        shift
        ways="$* $way"
        for console in $consoles; do
            answer=$(send "$way" "${console%,*}" "${console##*,}" <"$folder/report/message")
            case $answer in
            "diskcast-first-start heard $want")
                note "the console at ${console%,*} heard of the first start"
                return 0
                ;;
            'diskcast-first-start refused')
                note "the console at ${console%,*} refused the report of the first start"
                return 0
                ;;
            esac
            note "no answer from ${console%,*}, port ${console##*,}, by $way"
        done
    done
    note 'no console heard of the first start'
    return 1
}
"#;

#[cfg(test)]
mod tests;
