//! HTTP/1 answers, and whether one is whole.

/// A whole answer.
#[derive(Debug, PartialEq, Eq)]
pub struct Answer {
    pub status: u16,
    /// The connection takes no further request.
    pub last: bool,
    /// Its bytes, head and body.
    pub length: usize,
}

/// The answer at the start of what was received; none while it is not whole. `ended` says that the
/// server has closed the connection in order, so no more will come. The error says what is not HTTP.
pub fn parse(received: &[u8], ended: bool) -> Result<Option<Answer>, String> {
    let begin = b"HTTP/1.";
    let common = received.len().min(begin.len());
    if received[..common] != begin[..common] {
        return Err("not a status line".into());
    }
    let Some(head_length) = find(received, b"\r\n\r\n").map(|at| at + 4) else {
        return Ok(None);
    };
    let head = Head::parse(&received[..head_length])?;
    let body = &received[head_length..];
    let (body_length, last) = match head.framing {
        Framing::Length(length) => ((body.len() >= length).then_some(length), head.last),
        Framing::Chunked => (chunked(body)?, head.last),
        Framing::UntilClose => (ended.then_some(body.len()), true),
    };
    let whole = |length| Answer { status: head.status, last, length: head_length + length };
    Ok(body_length.map(whole))
}

/// What ends a body.
enum Framing {
    Length(usize),
    Chunked,
    UntilClose,
}

struct Head {
    status: u16,
    last: bool,
    framing: Framing,
}

impl Head {
    fn parse(head: &[u8]) -> Result<Self, String> {
        let head = std::str::from_utf8(head).map_err(|_| "a head that is not text")?;
        let mut lines = head.lines();
        let status_line = lines.next().unwrap_or_default();
        let status = status_line.get(9..12).and_then(|digits| digits.parse().ok());
        let status = status.ok_or_else(|| format!("not a status line: {status_line:?}"))?;
        let mut last = status_line.starts_with("HTTP/1.0");
        let mut framing = Framing::UntilClose;
        for line in lines {
            let (name, value) = line.split_once(':').unwrap_or((line, ""));
            let has = |word: &str| value.split(',').any(|it| it.trim().eq_ignore_ascii_case(word));
            if name.eq_ignore_ascii_case("connection") {
                last = has("close") || last && !has("keep-alive");
            } else if name.eq_ignore_ascii_case("transfer-encoding") && has("chunked") {
                framing = Framing::Chunked;
            } else if name.eq_ignore_ascii_case("content-length") {
                let length = value.trim().parse();
                framing = Framing::Length(length.map_err(|_| format!("not a length: {line:?}"))?);
            }
        }
        if status == 204 || status == 304 {
            framing = Framing::Length(0);
        }
        Ok(Self { status, last, framing })
    }
}

/// The length of a chunked body with its end, where that is there.
fn chunked(body: &[u8]) -> Result<Option<usize>, String> {
    let mut at = 0;
    loop {
        let Some(line_length) = find(&body[at..], b"\r\n") else { return Ok(None) };
        let line = String::from_utf8_lossy(&body[at..at + line_length]);
        let digits = line.split(';').next().unwrap_or_default().trim();
        let size = usize::from_str_radix(digits, 16);
        let size = size.map_err(|_| format!("not the size of a chunk: {line:?}"))?;
        if size == 0 {
            // Trailers may follow; an empty line ends them.
            return Ok(
                find(&body[at + line_length..], b"\r\n\r\n").map(|it| at + line_length + it + 4)
            );
        }
        at += line_length + 2 + size;
        match body.get(at..at + 2) {
            Some(b"\r\n") => at += 2,
            Some(_) => return Err("a chunk longer than its size".into()),
            None => return Ok(None),
        }
    }
}

fn find(bytes: &[u8], what: &[u8]) -> Option<usize> {
    bytes.windows(what.len()).position(|window| window == what)
}
