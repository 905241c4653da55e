//! A request as a command that can be pasted into a shell: `curl`, or what writes bytes to a socket where they are such
//! as no HTTP client sends. Bodies are in the command, or made by it: nobody has a file of them.

use crate::trace::Exchange;
use url::Url;

/// The longest text that goes into a command as it is, in bytes.
const LONGEST: usize = 16 * 1024;

/// So many bytes that are alike are made by the shell.
const RUN: usize = 256;

/// The command. Redacted headers stay redacted: the reader fills them in. Callback URLs are those of the judge,
/// which has gone: the reader who waits for the outcome puts in one of their own.
pub fn curl(exchange: &Exchange) -> String {
    let body: &[u8] = &exchange.body.0;
    if exchange.method == "RAW" {
        return format!("{} | {}", made(body, exchange.n), socket(&exchange.url));
    }
    let mut command = format!("curl -sS -i -X {} {}", exchange.method, quoted(&exchange.url));
    for (name, value) in &exchange.headers {
        if !["host", "content-length", "connection"].contains(&name.as_str()) {
            command.push_str(&format!(" -H {}", quoted(&format!("{name}: {value}"))));
        }
    }
    if body.is_empty() {
        return command;
    }
    let plain = |text: &&str| body.len() <= LONGEST && !text.chars().any(char::is_control);
    match std::str::from_utf8(body).ok().filter(plain) {
        Some(text) => format!("{command} --data-binary {}", quoted(text)),
        None => format!("{} | {command} --data-binary @-", made(body, exchange.n)),
    }
}

/// What writes standard input to the host of a URL as it is.
fn socket(url: &str) -> String {
    let parsed = Url::parse(url).ok();
    let host = parsed.as_ref().and_then(Url::host_str).unwrap_or("HOST").trim_matches(['[', ']']).to_owned();
    let port = parsed.as_ref().and_then(Url::port_or_known_default).unwrap_or(80);
    if url.starts_with("https:") {
        let place = if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") };
        format!("openssl s_client -quiet -connect {}", quoted(&place))
    } else {
        format!("nc -w 5 {} {port}", quoted(&host))
    }
}

/// A command that writes these bytes; where they are too many and too different, one that takes them from the file of `--trace`.
fn made(body: &[u8], n: u64) -> String {
    let mut steps = Vec::new();
    let (mut text, mut length) = (String::new(), 0);
    let mut at = 0;
    while at < body.len() {
        let run = body[at..].iter().take_while(|b| **b == body[at]).count();
        if run >= RUN {
            if !text.is_empty() {
                steps.push(format!("printf '{}'", std::mem::take(&mut text)));
            }
            steps.push(format!("head -c {run} /dev/zero | tr '\\0' '{}'", octal(body[at])));
            at += run;
            continue;
        }
        let (piece, taken) = character(&body[at..]);
        // `printf` would take it for an option.
        let first = text.is_empty() && piece == "-";
        text.push_str(if first { "\\055" } else { &piece });
        length += taken;
        at += taken;
    }
    if length > LONGEST {
        return format!("jq -j 'select(.n == {n}).body' FILE_OF_TRACE");
    }
    if !text.is_empty() || steps.is_empty() {
        steps.push(format!("printf '{text}'"));
    }
    match steps.as_slice() {
        [one] => one.clone(),
        all => format!("{{ {}; }}", all.join("; ")),
    }
}

/// The first character as `printf` wants it, and its length in bytes.
fn character(bytes: &[u8]) -> (String, usize) {
    let length = match bytes[0] {
        0xc2..=0xdf => 2,
        0xe0..=0xef => 3,
        0xf0..=0xf4 => 4,
        _ => 1,
    };
    let whole =
        bytes.get(..length).and_then(|b| std::str::from_utf8(b).ok()).and_then(|text| text.chars().next());
    match whole {
        Some('\n') => ("\\n".to_owned(), 1),
        Some('\r') => ("\\r".to_owned(), 1),
        Some('\\') => ("\\\\".to_owned(), 1),
        Some('%') => ("%%".to_owned(), 1),
        Some('\'') => (r"'\''".to_owned(), 1),
        Some(c) if !c.is_control() => (c.to_string(), c.len_utf8()),
        _ => (octal(bytes[0]), 1),
    }
}

fn octal(byte: u8) -> String {
    if byte.is_ascii_alphanumeric() { char::from(byte).to_string() } else { format!("\\{byte:03o}") }
}

/// A word as a POSIX shell takes it literally.
fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./:=@%+,".contains(c);
    if !word.is_empty() && !word.starts_with('@') && word.chars().all(plain) {
        word.to_owned()
    } else {
        format!("'{}'", word.replace('\'', r"'\''"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::trace::{Body, Party};
    use std::process::Command;

    fn exchange(method: &str, url: &str, body: Vec<u8>) -> Exchange {
        Exchange {
            n: 7,
            case: None,
            from: Party::Runtime,
            began: 1,
            ended: None,
            at_us: 0,
            took_us: 0,
            method: method.to_owned(),
            url: url.to_owned(),
            headers: Vec::new(),
            body: Body(body.into()),
            answer: None,
            failure: None,
        }
    }

    /// What a shell makes of a command that writes bytes.
    fn written(command: &str) -> Vec<u8> {
        Command::new("sh").args(["-c", command]).output().expect("a shell").stdout
    }

    #[test]
    fn a_shell_writes_the_bytes_that_were_sent() {
        let huge = [b"{\"text\":\"".to_vec(), vec![b'x'; 300_000], b"\", \"n\":1}\r\n".to_vec()].concat();
        let nested = [vec![b'['; 20_000], vec![b']'; 20_000]].concat();
        for body in [
            huge,
            nested,
            vec![b'\''; 1000],
            vec![0; 5000],
            vec![0xff; 300],
            b"-n %s %% \\ \\n 'it''s' \x00\x01\x7f\xff\xfe\xc3\x28 \xc3\xa9\t\n\n".to_vec(),
            "ü\u{9f}🦀".into(),
            (0..=255).collect(),
            b"\x001\x0012".to_vec(),
        ] {
            let command = made(&body, 1);
            assert!(!command.chars().any(char::is_control), "{command}");
            assert!(written(&command) == body, "{command:.300}");
        }
    }

    #[test]
    fn bytes_as_they_are_go_to_a_socket_and_odd_bodies_through_a_pipe() {
        let raw = curl(&exchange("RAW", "http://127.0.0.1:3001/rap?a", b"POST / HTTP/1.1\r\n\r\n".to_vec()));
        assert_eq!(raw, r"printf 'POST / HTTP/1.1\r\n\r\n' | nc -w 5 127.0.0.1 3001");
        let raw = curl(&exchange("RAW", "https://[::1]/rap", b"x".to_vec()));
        assert_eq!(raw, "printf 'x' | openssl s_client -quiet -connect '[::1]:443'");
        let odd = curl(&exchange("POST", "http://127.0.0.1/", b"{\"a\":\"\xff\"}".to_vec()));
        assert_eq!(odd, r#"printf '{"a":"\377"}' | curl -sS -i -X POST http://127.0.0.1/ --data-binary @-"#);
        let different: String = (0..9000).map(|n| format!("{n},")).collect();
        let told = curl(&exchange("POST", "http://127.0.0.1/", different.into()));
        assert!(told.starts_with("jq -j 'select(.n == 7).body' FILE_OF_TRACE | curl "), "{told:.100}");
    }
}
