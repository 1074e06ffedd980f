//! HTTP/1.1 messages as bytes, read by a reader of our own: what the edge sends must be clear to
//! somebody who shares no code with it.

/// A response as a client got it.
#[derive(Clone, Debug)]
pub(crate) struct Response {
    /// Status line and header fields.
    pub(crate) head: Vec<u8>,
    /// The body without its framing, trailers after it.
    pub(crate) body: Vec<u8>,
    /// How many bytes of that are the body's.
    pub(crate) data: usize,
    /// Where it begins among the bytes of its connection, on HTTP/1.
    pub(crate) starts: usize,
    /// It ended where it said it would.
    pub(crate) whole: bool,
}

impl Response {
    /// The status code; 0 when there is none.
    pub(crate) fn status(&self) -> u16 {
        let line = self.head.split(|b| *b == b'\r').next().unwrap_or_default();
        let code = line.split(|b| *b == b' ').nth(1).unwrap_or_default();
        std::str::from_utf8(code)
            .ok()
            .and_then(|code| code.parse().ok())
            .unwrap_or(0)
    }
}

/// The value of the first field of a name in a head.
pub(crate) fn field<'a>(head: &'a [u8], name: &str) -> Option<&'a [u8]> {
    fields(head)
        .find(|(n, _)| n.eq_ignore_ascii_case(name.as_bytes()))
        .map(|(_, value)| value)
}

/// The fields of a head, its first line left out.
pub(crate) fn fields(head: &[u8]) -> impl Iterator<Item = (&[u8], &[u8])> {
    head.split(|b| *b == b'\n').skip(1).filter_map(|line| {
        let colon = line.iter().position(|b| *b == b':')?;
        Some((&line[..colon], line[colon + 1..].trim_ascii()))
    })
}

/// Where the head at the front of some bytes ends, the empty line included.
pub(crate) fn head_end(bytes: &[u8]) -> Option<usize> {
    bytes
        .windows(4)
        .position(|four| four == b"\r\n\r\n")
        .map(|at| at + 4)
}

/// What a body is, as far as it is there.
pub(crate) enum Body {
    /// All of it, how many bytes it took, and how many of its bytes are no trailers.
    Whole(Vec<u8>, usize, usize),
    /// Its beginning.
    Part(Vec<u8>),
    /// Not chunks at all.
    Malformed,
}

/// Reads chunks; trailers are put after the data.
pub(crate) fn chunked(bytes: &[u8]) -> Body {
    let mut body = Vec::new();
    let mut at = 0;
    loop {
        let Some(line) = line(&bytes[at..]) else {
            return Body::Part(body);
        };
        let digits = line.split(|b| *b == b';').next().unwrap_or_default();
        let size = std::str::from_utf8(digits)
            .ok()
            .and_then(|d| usize::from_str_radix(d, 16).ok());
        let Some(size) = size else {
            return Body::Malformed;
        };
        at += line.len() + 2;
        if size == 0 {
            break;
        }
        let left = &bytes[at..];
        body.extend_from_slice(&left[..left.len().min(size)]);
        match left.get(size..size + 2) {
            Some(b"\r\n") => at += size + 2,
            Some(_) => return Body::Malformed,
            None => return Body::Part(body),
        }
    }
    let data = body.len();
    loop {
        let Some(line) = line(&bytes[at..]) else {
            body.truncate(data);
            return Body::Part(body);
        };
        at += line.len() + 2;
        if line.is_empty() {
            return Body::Whole(body, at, data);
        }
        body.extend_from_slice(line);
    }
}

/// The bytes before the next end of line.
fn line(bytes: &[u8]) -> Option<&[u8]> {
    let end = bytes.windows(2).position(|two| two == b"\r\n")?;
    Some(&bytes[..end])
}

/// Reads the responses on a connection. `head_only`: for each request, whether its answer has no
/// body. `ended`: nothing more comes.
///
/// # Errors
/// What is no HTTP, or answers nothing.
pub(crate) fn responses(
    bytes: &[u8],
    head_only: &[bool],
    ended: bool,
) -> Result<Vec<Response>, String> {
    let mut responses = Vec::new();
    let mut at = 0;
    while at < bytes.len() {
        let rest = &bytes[at..];
        let Some(end) = head_end(rest) else {
            if !rest.starts_with(&b"HTTP/1."[..rest.len().min(7)]) {
                return Err(format!(
                    "no response begins so: {:?}",
                    String::from_utf8_lossy(&rest[..rest.len().min(60)])
                ));
            }
            return Ok(responses);
        };
        let head = &rest[..end];
        let status = head
            .get(9..12)
            .and_then(|digits| std::str::from_utf8(digits).ok());
        let status = status
            .filter(|_| head.starts_with(b"HTTP/1."))
            .and_then(|digits| digits.parse::<u16>().ok());
        let status =
            status.ok_or_else(|| format!("no status line: {:?}", String::from_utf8_lossy(head)))?;
        let starts = at;
        at += end;
        if (100..200).contains(&status) {
            continue;
        }
        let head_only = *head_only.get(responses.len()).ok_or_else(|| {
            format!(
                "an answer that nobody asked for: {:?}",
                String::from_utf8_lossy(head)
            )
        })?;
        let rest = &bytes[at..];
        let is_chunked = field(head, "transfer-encoding").is_some();
        let length = field(head, "content-length");
        if is_chunked && length.is_some() {
            return Err("a length beside a coding".to_owned());
        }
        let mut data = None;
        let (body, whole, took) = if head_only || status == 204 || status == 304 {
            (Vec::new(), true, 0)
        } else if is_chunked {
            match chunked(rest) {
                Body::Whole(body, took, of_data) => {
                    data = Some(of_data);
                    (body, true, took)
                }
                Body::Part(body) => (body, false, rest.len()),
                Body::Malformed => return Err("malformed chunks".to_owned()),
            }
        } else if let Some(length) = length {
            let length = std::str::from_utf8(length)
                .ok()
                .and_then(|l| l.parse::<usize>().ok());
            let length = length.ok_or("a length that is none")?;
            let took = rest.len().min(length);
            (rest[..took].to_vec(), took == length, took)
        } else {
            (rest.to_vec(), ended, rest.len())
        };
        at += took;
        responses.push(Response {
            head: head.to_vec(),
            data: data.unwrap_or(body.len()),
            body,
            starts,
            whole,
        });
    }
    Ok(responses)
}
