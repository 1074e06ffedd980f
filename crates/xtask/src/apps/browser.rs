//! A browser as far as a test needs one: a cookie jar, forms, and one connection that is kept.
//!
//! Never follows a redirect or interprets a page: what came is what the test judges.
//!
//! Its own few lines of HTTP, so that a fault in the edge's reading is not repeated here.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use crate::process::{Doing, Failure};

pub(crate) struct Browser {
    site: SocketAddr,
    /// What it calls the site.
    host: String,
    pub(crate) cookies: BTreeMap<String, String>,
    connection: Option<BufReader<TcpStream>>,
}

/// A whole answer.
#[derive(Debug, Default)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    /// Names in lower case, in the order they came.
    pub(crate) headers: Vec<(String, String)>,
    /// Bytes that are no text are replaced: the test looks for words.
    pub(crate) body: String,
}

impl Answer {
    /// The first value of a header; empty when there is none.
    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers_named(name).next().unwrap_or_default()
    }

    pub(crate) fn headers_named(&self, name: &str) -> impl Iterator<Item = &str> {
        self.headers
            .iter()
            .filter(move |(it, _)| it == name)
            .map(|(_, value)| value.as_str())
    }

    /// Each cookie set: its name and value.
    pub(crate) fn cookies_set(&self) -> impl Iterator<Item = (&str, &str)> {
        let pairs = self
            .headers_named("set-cookie")
            .filter_map(|it| it.split(';').next());
        pairs
            .filter_map(|pair| pair.split_once('='))
            .map(|(name, value)| (name.trim(), value.trim()))
    }

    /// The values of a form's hidden field.
    pub(crate) fn hidden(&self, name: &str) -> Vec<&str> {
        let mark = format!("name=\"{name}\" value=\"");
        let found = self
            .body
            .match_indices(&mark)
            .map(|(at, _)| at + mark.len());
        found
            .filter_map(|at| self.body.get(at..)?.split('"').next())
            .collect()
    }
}

impl Browser {
    pub(crate) fn new(site: SocketAddr) -> Self {
        Self::of(site, site.to_string())
    }

    /// The same for a site that is called otherwise than its address.
    pub(crate) fn of(site: SocketAddr, host: String) -> Self {
        Self {
            site,
            host,
            cookies: BTreeMap::new(),
            connection: None,
        }
    }

    pub(crate) fn get(&mut self, path: &str) -> Result<Answer, Failure> {
        let head = self.head("GET", path);
        self.exchange(&format!("{head}\r\n"))
    }

    /// Sends a form as a browser does, with where it comes from: the site may look.
    pub(crate) fn post(&mut self, path: &str, form: &[(&str, &str)]) -> Result<Answer, Failure> {
        let fields = form
            .iter()
            .map(|(name, value)| format!("{name}={}", escaped(value)));
        let body = fields.collect::<Vec<_>>().join("&");
        let site = self.host.clone();
        let head = self.head("POST", path);
        self.exchange(&format!(
            "{head}Origin: http://{site}\r\nReferer: http://{site}{path}\r\n\
             Content-Type: application/x-www-form-urlencoded\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        ))
    }

    fn head(&self, method: &str, path: &str) -> String {
        let mut head = format!(
            "{method} {path} HTTP/1.1\r\nHost: {}\r\nUser-Agent: Mozilla/5.0 (xtask)\r\n\
             Accept: text/html,*/*;q=0.8\r\nAccept-Encoding: gzip, deflate\r\n",
            self.host
        );
        if !self.cookies.is_empty() {
            let pairs = self
                .cookies
                .iter()
                .map(|(name, value)| format!("{name}={value}"));
            let pairs = pairs.collect::<Vec<_>>().join("; ");
            head.push_str(&format!("Cookie: {pairs}\r\n"));
        }
        head
    }

    fn exchange(&mut self, request: &str) -> Result<Answer, Failure> {
        let line = request.lines().next().unwrap_or_default();
        if let Some(kept) = self.connection.take() {
            // A kept connection may have been closed meanwhile; then no byte of an answer comes.
            if let Some(answer) = self.exchange_on(kept, request).doing(line)? {
                return Ok(answer);
            }
        }
        let stream = TcpStream::connect(self.site).doing(line)?;
        stream.set_read_timeout(Some(PATIENCE)).doing(line)?;
        let answer = self
            .exchange_on(BufReader::new(stream), request)
            .doing(line)?;
        answer.ok_or_else(|| Failure::new(format!("{line}: closed without an answer")))
    }

    /// `None` when the connection ended before the first byte of an answer.
    fn exchange_on(
        &mut self,
        mut connection: BufReader<TcpStream>,
        request: &str,
    ) -> std::io::Result<Option<Answer>> {
        let sent = connection.get_mut().write_all(request.as_bytes());
        let begun = sent.and_then(|()| connection.fill_buf().map(|bytes| !bytes.is_empty()));
        if !begun.unwrap_or(false) {
            return Ok(None);
        }
        let mut answer = read_head(&mut connection)?;
        let body = read_body(&mut connection, &answer)?;
        answer.body = String::from_utf8_lossy(&body).into_owned();
        self.keep_cookies(&answer);
        if !answer.header("connection").eq_ignore_ascii_case("close") {
            self.connection = Some(connection);
        }
        Ok(Some(answer))
    }

    fn keep_cookies(&mut self, answer: &Answer) {
        for (name, value) in answer.cookies_set() {
            // Django ends a session by setting its cookie to nothing.
            if value.is_empty() || value == "\"\"" {
                self.cookies.remove(name);
            } else {
                self.cookies.insert(name.to_owned(), value.to_owned());
            }
        }
    }
}

fn read_head(from: &mut impl BufRead) -> std::io::Result<Answer> {
    let mut answer = Answer::default();
    let status = read_line(from)?;
    let code = status.split(' ').nth(1).and_then(|code| code.parse().ok());
    answer.status = code.ok_or_else(|| malformed(&status))?;
    loop {
        let line = read_line(from)?;
        if line.is_empty() {
            return Ok(answer);
        }
        let (name, value) = line.split_once(':').ok_or_else(|| malformed(&line))?;
        answer
            .headers
            .push((name.to_ascii_lowercase(), value.trim().to_owned()));
    }
}

/// RFC 9112 section 6.3, for answers to `GET` and `POST`.
fn read_body(from: &mut impl BufRead, head: &Answer) -> std::io::Result<Vec<u8>> {
    let mut body = Vec::new();
    if head
        .header("transfer-encoding")
        .eq_ignore_ascii_case("chunked")
    {
        loop {
            let line = read_line(from)?;
            let size = line.split(';').next().unwrap_or_default().trim();
            let size = u64::from_str_radix(size, 16).map_err(|_| malformed(&line))?;
            from.take(size).read_to_end(&mut body)?;
            if size == 0 {
                break;
            }
            read_line(from)?;
        }
        while !read_line(from)?.is_empty() {}
    } else if let Ok(length) = head.header("content-length").parse() {
        from.take(length).read_to_end(&mut body)?;
    } else if head.status != 304 && head.status != 204 {
        from.read_to_end(&mut body)?;
    }
    Ok(body)
}

fn read_line(from: &mut impl BufRead) -> std::io::Result<String> {
    let mut line = String::new();
    from.read_line(&mut line)?;
    let line = line.strip_suffix("\r\n").ok_or_else(|| malformed(&line))?;
    Ok(line.to_owned())
}

fn malformed(line: &str) -> std::io::Error {
    std::io::Error::new(
        std::io::ErrorKind::InvalidData,
        format!("not HTTP: {line:?}"),
    )
}

/// A form's value: letters and digits stay, all else is escaped.
fn escaped(value: &str) -> String {
    let bytes = value.bytes().map(|byte| match byte {
        b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' => char::from(byte).to_string(),
        _ => format!("%{byte:02X}"),
    });
    bytes.collect()
}

const PATIENCE: Duration = Duration::from_secs(30);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_read_by_their_framing() {
        for (wire, expected) in [
            (
                "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nabX",
                Some((200, "ab")),
            ),
            (
                "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nab\r\n1;x\r\nc\r\n0\r\n\r\n",
                Some((200, "abc")),
            ),
            (
                "HTTP/1.1 404 Not Found\r\n\r\nto the end",
                Some((404, "to the end")),
            ),
            ("HTTP/1.1 304 Not Modified\r\n\r\n", Some((304, ""))),
            ("HTTP/1.1 what\r\n\r\n", None),
            ("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n", None),
        ] {
            let mut from = wire.as_bytes();
            let read = read_head(&mut from)
                .and_then(|head| read_body(&mut from, &head).map(|body| (head.status, body)));
            let expected = expected.map(|(status, body)| (status, body.as_bytes().to_vec()));
            assert_eq!(read.ok(), expected, "{wire}");
        }
    }

    #[test]
    fn a_page_gives_its_cookies_and_its_hidden_fields() {
        let answer = Answer {
            status: 200,
            headers: vec![
                ("set-cookie".into(), "a=1; Path=/".into()),
                ("set-cookie".into(), "b=\"\"; expires=Thu".into()),
            ],
            body: r#"<input type="hidden" name="t" value="x"><input name="t" value="y">"#.into(),
        };
        assert_eq!(
            answer.cookies_set().collect::<Vec<_>>(),
            [("a", "1"), ("b", "\"\"")]
        );
        assert_eq!(answer.hidden("t"), ["x", "y"]);
        let mut browser = Browser::new(SocketAddr::from(([127, 0, 0, 1], 1)));
        browser.cookies.insert("b".into(), "old".into());
        browser.keep_cookies(&answer);
        assert!(
            browser
                .cookies
                .iter()
                .eq([(&"a".to_owned(), &"1".to_owned())])
        );
    }

    #[test]
    fn a_forms_value_is_escaped() {
        assert_eq!(escaped("a b&c=é1"), "a%20b%26c%3D%C3%A91");
    }
}
