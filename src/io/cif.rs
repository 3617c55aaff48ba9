//! The syntax of CIF files (STAR): items with one value, and loops of items with one in each row. What items mean is not known here.
use std::collections::HashMap;

/// Something wrong with a file.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {message}")]
pub struct CifFault {
    /// Line, from 1.
    pub line: usize,
    /// What is wrong.
    pub message: String,
}

/// The items of the first data block, by name in lower case.
#[derive(Debug, Clone, Default)]
pub struct Cif<'t> {
    items: HashMap<String, Vec<&'t str>>,
}

/// A word of a file.
#[derive(Debug, Clone, Copy)]
struct Token<'t> {
    text: &'t str,
    line: usize,
    /// Quoted words are values, whatever they look like.
    quoted: bool,
}

impl<'t> Cif<'t> {
    /// Values of an item, one for each row of its loop; none if the file does not have it.
    pub fn column(&self, name: &str) -> &[&'t str] {
        self.items.get(name).map_or(&[], Vec::as_slice)
    }

    /// Values of several items of one loop, row by row; `None`: one of them is not there.
    pub fn rows<'c, const N: usize>(
        &'c self,
        names: [&str; N],
    ) -> Option<impl Iterator<Item = [&'t str; N]> + use<'c, 't, N>> {
        let columns = names.map(|name| self.column(name));
        let n = columns.iter().map(|c| c.len()).min().filter(|n| *n > 0)?;
        Some((0..n).map(move |i| columns.map(|c| c[i])))
    }

    /// Reads the first data block.
    ///
    /// # Errors
    /// If an item has no value, a loop an incomplete row, or a text no end.
    pub fn parse(text: &'t str) -> Result<Self, CifFault> {
        let mut cif = Self::default();
        let mut tokens = Tokens { text, at: 0, line: 1 };
        let mut next = tokens.next()?;
        let mut blocks = 0;
        while let Some(token) = next {
            let word = token.text.to_ascii_lowercase();
            if token.is_name() {
                let value = tokens.next()?.filter(Token::is_value);
                let Some(value) = value else { return Err(token.fault("has no value")) };
                cif.items.insert(word, vec![value.text]);
                next = tokens.next()?;
            } else if !token.quoted && word == "loop_" {
                next = cif.read_loop(token, &mut tokens)?;
            } else if !token.quoted && word.starts_with("data_") {
                blocks += 1;
                if blocks == 2 {
                    break;
                }
                next = tokens.next()?;
            } else if token.is_value() {
                return Err(token.fault("is a value without a name"));
            } else {
                next = tokens.next()?;
            }
        }
        Ok(cif)
    }

    /// Reads names and rows after `loop_` and gives the word after them.
    fn read_loop(&mut self, start: Token<'t>, tokens: &mut Tokens<'t>) -> Result<Option<Token<'t>>, CifFault> {
        let mut names = Vec::new();
        let mut next = tokens.next()?;
        while let Some(token) = next.filter(Token::is_name) {
            names.push(token.text.to_ascii_lowercase());
            next = tokens.next()?;
        }
        let mut columns: Vec<Vec<&str>> = vec![Vec::new(); names.len()];
        let mut n = 0;
        while let Some(token) = next.filter(Token::is_value) {
            if names.is_empty() {
                return Err(token.fault("is a value of a loop without names"));
            }
            columns[n % names.len()].push(token.text);
            n += 1;
            next = tokens.next()?;
        }
        if !names.is_empty() && n % names.len() != 0 {
            return Err(start.fault(&format!("has {n} values, which is no whole number of rows of {}", names.len())));
        }
        self.items.extend(names.into_iter().zip(columns));
        Ok(next)
    }
}

impl Token<'_> {
    fn is_name(&self) -> bool {
        !self.quoted && self.text.starts_with('_')
    }

    fn is_value(&self) -> bool {
        let starts = |word: &str| self.text.get(..word.len()).is_some_and(|t| t.eq_ignore_ascii_case(word));
        self.quoted
            || !(self.text.starts_with('_') || ["data_", "loop_", "save_", "stop_", "global_"].into_iter().any(starts))
    }

    fn fault(&self, what: &str) -> CifFault {
        let shown: String = self.text.chars().take(30).collect();
        CifFault { line: self.line, message: format!("{shown:?} {what}") }
    }
}

/// The words of a text.
struct Tokens<'t> {
    text: &'t str,
    at: usize,
    line: usize,
}

impl<'t> Tokens<'t> {
    fn next(&mut self) -> Result<Option<Token<'t>>, CifFault> {
        let bytes = self.text.as_bytes();
        loop {
            match bytes.get(self.at) {
                None => return Ok(None),
                Some(b'\n') => {
                    self.line += 1;
                    self.at += 1;
                }
                Some(c) if c.is_ascii_whitespace() => self.at += 1,
                Some(b'#') => self.at += self.text[self.at..].find('\n').unwrap_or(self.text.len() - self.at),
                Some(_) => break,
            }
        }
        let (start, line) = (self.at, self.line);
        let rest = &self.text[start..];
        let at_line_start = start == 0 || bytes[start - 1] == b'\n';
        let (text, length, quoted) = match bytes[start] {
            b';' if at_line_start => {
                let Some(end) = rest.find("\n;") else {
                    return Err(CifFault { line, message: "the text that ';' begins has no end".to_owned() });
                };
                (rest[1..end].trim_end_matches('\r'), end + 2, true)
            }
            quote @ (b'\'' | b'"') => {
                let closes = |i: &usize| {
                    rest.as_bytes()[*i] == quote && rest.as_bytes().get(i + 1).is_none_or(u8::is_ascii_whitespace)
                };
                let end = (1..rest.len()).take_while(|i| rest.as_bytes()[*i] != b'\n').find(closes);
                let Some(end) = end else {
                    return Err(CifFault { line, message: "a quoted value has no end on its line".to_owned() });
                };
                (&rest[1..end], end + 1, true)
            }
            _ => {
                let end = rest.find(|c: char| c.is_ascii_whitespace()).unwrap_or(rest.len());
                (&rest[..end], end, false)
            }
        };
        self.at += length;
        self.line += rest[..length].matches('\n').count();
        Ok(Some(Token { text, line, quoted }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn items_and_loops() {
        let text = "data_x\n_Entry.id 'a b' # note\n_t.x\n;one\ntwo\n;\nloop_\n_a.b\n_a.c\n1 O5'\n\"_x\" ?\n#\nloop_\n_e.f\ndata_y\n_g.h 1\n";
        let cif = Cif::parse(text).unwrap();
        assert_eq!((cif.column("_entry.id"), cif.column("_t.x")), (&["a b"][..], &["one\ntwo"][..]));
        let rows: Vec<_> = cif.rows(["_a.c", "_a.b"]).unwrap().collect();
        assert_eq!(rows, [["O5'", "1"], ["?", "_x"]]);
        assert!(cif.rows(["_e.f"]).is_none() && cif.column("_g.h").is_empty());
    }

    #[test]
    fn faults_have_lines() {
        let fault = |text: &str| Cif::parse(text).unwrap_err().to_string();
        assert_eq!(
            fault("data_x\nloop_\n_a.b\n_a.c\n1 2 3\n"),
            "line 2: \"loop_\" has 3 values, which is no whole number of rows of 2"
        );
        assert_eq!(fault("data_x\n_a.b\n_c.d 1\n"), "line 2: \"_a.b\" has no value");
        assert_eq!(fault("data_x\n\n_a.b 'x\n"), "line 3: a quoted value has no end on its line");
        assert_eq!(fault("data_x\n_a.b\n;x\ny"), "line 3: the text that ';' begins has no end");
        assert_eq!(fault("hello"), "line 1: \"hello\" is a value without a name");
    }
}
