//! Rewrites preprocessed Metal source into C++17 that clang can compile together with `shim/msl.h`.
use std::collections::{HashMap, HashSet};

/// Kind of a token.
#[derive(Clone, Copy, PartialEq, Debug)]
enum K {
    Id,
    Num,
    Str,
    P,
    Ws,
    Hash,
}
/// A token, with the line and file it is from.
#[derive(Clone, Debug)]
struct Tok {
    k: K,
    s: String,
    line: u32,
    file: u16,
}

/// A kernel function: its parameters as (kind, buffer number) and where its body is.
#[derive(Debug, Clone)]
pub struct Kernel {
    pub name: String,
    pub templ: bool,
    pub params: Vec<(&'static str, u32)>,
    pub body: (usize, usize),
}
/// The C++ text, the names of its kernels, what the translator objects to.
#[derive(Debug, Default)]
pub struct Translated {
    pub cpp: String,
    pub kernels: Vec<String>,
    pub lints: Vec<String>,
}

/// Tokens of a preprocessed source, and its files by number.
fn lex(src: &str) -> (Vec<Tok>, Vec<String>) {
    let b = src.as_bytes();
    let (mut i, mut out, mut files, mut line, mut file) = (0, vec![], vec![String::from("?")], 1u32, 0u16);
    let mut bol = true;
    while i < b.len() {
        let st = i;
        let c = b[i];
        let k = if c == b'#' && bol {
            while i < b.len() && b[i] != b'\n' {
                i += 1
            }
            let t = &src[st..i];
            // line marker: # 12 "file" flags
            let mut it = t[1..].trim().trim_start_matches("line").trim().splitn(2, ' ');
            if let Some(Ok(n)) = it.next().map(|x| x.parse::<u32>()) {
                line = n.wrapping_sub(1);
                if let Some(f) = it.next().and_then(|r| r.split('"').nth(1)) {
                    file = files.iter().position(|x| x == f).unwrap_or_else(|| {
                        files.push(f.into());
                        files.len() - 1
                    }) as u16;
                }
            }
            K::Hash
        } else if c.is_ascii_whitespace() {
            while i < b.len() && b[i].is_ascii_whitespace() {
                if b[i] == b'\n' {
                    line = line.wrapping_add(1);
                    bol = true;
                    i += 1;
                    break;
                }
                i += 1
            }
            out.push(Tok { k: K::Ws, s: src[st..i].into(), line, file });
            continue;
        } else if c == b'_' || c.is_ascii_alphabetic() {
            while i < b.len() && (b[i] == b'_' || b[i].is_ascii_alphanumeric()) {
                i += 1
            }
            K::Id
        } else if c.is_ascii_digit() || (c == b'.' && i + 1 < b.len() && b[i + 1].is_ascii_digit()) {
            while i < b.len()
                && (b[i] == b'.'
                    || b[i] == b'_'
                    || b[i].is_ascii_alphanumeric()
                    || ((b[i] == b'+' || b[i] == b'-')
                        && matches!(b[i - 1], b'e' | b'E' | b'p' | b'P')
                        && !src[st..i].starts_with("0x")))
            {
                i += 1
            }
            K::Num
        } else if c == b'"' || c == b'\'' {
            i += 1;
            while i < b.len() && b[i] != c {
                if b[i] == b'\\' {
                    i += 1
                }
                i += 1
            }
            i += 1;
            K::Str
        } else if src[i..].starts_with("::") || src[i..].starts_with("->") {
            i += 2;
            K::P
        } else {
            i += 1;
            while !src.is_char_boundary(i) {
                i += 1
            }
            K::P
        };
        bol = false;
        out.push(Tok { k, s: src[st..i].into(), line, file });
    }
    (out, files)
}

/// The tokens while they are rewritten; an emptied token is gone.
struct T {
    t: Vec<Tok>,
    files: Vec<String>,
    lints: Vec<String>,
}
impl T {
    /// Text of token i.
    fn s(&self, i: usize) -> &str {
        if i < self.t.len() { &self.t[i].s } else { "" }
    }
    /// The first token from i on that is neither space nor directive nor emptied.
    fn sig(&self, mut i: usize) -> usize {
        while i < self.t.len() && (matches!(self.t[i].k, K::Ws | K::Hash) || self.t[i].s.is_empty()) {
            i += 1
        }
        i
    }
    /// The next such token after i.
    fn nx(&self, i: usize) -> usize {
        self.sig(i + 1)
    }
    /// The last such token before i; `usize::MAX` if there is none.
    fn pv(&self, i: usize) -> usize {
        let mut j = i;
        while j > 0 {
            j -= 1;
            if !matches!(self.t[j].k, K::Ws | K::Hash) && !self.t[j].s.is_empty() {
                return j;
            }
        }
        usize::MAX
    }
    /// index of the token that closes the bracket at i
    fn close(&self, i: usize) -> usize {
        let (o, c) = match self.s(i) {
            "(" => ("(", ")"),
            "[" => ("[", "]"),
            "{" => ("{", "}"),
            "<" => ("<", ">"),
            x => panic!("not a bracket: {x}"),
        };
        let (mut d, mut j) = (0i32, i);
        while j < self.t.len() {
            let x = self.s(j);
            if x == o {
                d += 1
            } else if x == c {
                d -= 1;
                if d == 0 {
                    return j;
                }
            } else if o == "<" && (x == "(" || x == "[") {
                j = self.close(j)
            } else if o == "<" && (x == ";" || x == "{") {
                return usize::MAX;
            }
            j += 1;
        }
        usize::MAX
    }
    /// Empties tokens a to b; line breaks stay.
    fn blank(&mut self, a: usize, b: usize) {
        for i in a..=b.min(self.t.len() - 1) {
            if !matches!(self.t[i].k, K::Ws | K::Hash) {
                self.t[i].s.clear()
            }
        }
    }
    /// Tokens a to b on one line.
    fn text(&self, a: usize, b: usize) -> String {
        let mut o = String::new();
        for i in a..=b {
            match self.t[i].k {
                K::Hash => {}
                K::Ws => {
                    if !o.ends_with(' ') {
                        o.push(' ')
                    }
                }
                _ => o += &self.t[i].s,
            }
        }
        o.trim().to_string()
    }
    /// Notes an objection at token i.
    fn lint(&mut self, i: usize, m: impl AsRef<str>) {
        let t = &self.t[i];
        let f = &self.files[t.file as usize];
        self.lints.push(format!("{}:{}: {}", f.rsplit('/').next().unwrap(), t.line, m.as_ref()))
    }
    /// Does `[[` begin at i?
    fn is_attr(&self, i: usize) -> bool {
        self.s(i) == "[" && self.s(self.nx(i)) == "["
    }
    /// Removes definitions that are the same but for address spaces, which are erased.
    fn dedupe(&mut self) {
        let mut seen: HashSet<String> = HashSet::new();
        let mut stack: Vec<(usize, bool)> = vec![]; // opening brace, is a namespace or class
        let mut i = 0;
        while i < self.t.len() {
            match self.s(i) {
                "{" => {
                    let st = self.stmt_start(i);
                    let mut j = self.sig(st);
                    while self.s(j) == "template" {
                        let lt = self.nx(j);
                        if self.s(lt) != "<" {
                            break;
                        }
                        let c = self.close(lt);
                        if c == usize::MAX {
                            break;
                        }
                        j = self.nx(c)
                    }
                    let outer = stack.last().is_none_or(|x| x.1);
                    let scope = matches!(self.s(j), "struct" | "class" | "union" | "namespace" | "extern");
                    if outer && st < i && self.s(j) != "namespace" && (scope || (st..i).any(|q| self.s(q) == "(")) {
                        let mut key = format!("{}:", stack.last().map_or(0, |x| x.0));
                        for q in st..i {
                            if matches!(self.t[q].k, K::Ws | K::Hash) {
                                continue;
                            }
                            match self.s(q) {
                                "device" | "thread" | "threadgroup" => {}
                                "constant" | "const" => {
                                    if !key.ends_with("const ") {
                                        key += "const "
                                    }
                                }
                                x => {
                                    key += x;
                                    key.push(' ')
                                }
                            }
                        }
                        if !seen.insert(key) {
                            let mut e = self.close(i);
                            if scope && self.s(self.nx(e)) == ";" {
                                e = self.nx(e)
                            }
                            self.blank(st, e);
                            i = e;
                            continue;
                        }
                    }
                    stack.push((i, scope));
                }
                "}" => {
                    stack.pop();
                }
                _ => {}
            }
            i += 1;
        }
    }
    /// First token of the statement or declaration that i is in.
    fn stmt_start(&self, i: usize) -> usize {
        let (mut j, mut last) = (i, i);
        loop {
            let p = self.pv(j);
            if p == usize::MAX {
                return last;
            }
            match self.s(p) {
                ";" | "{" | "}" => return last,
                ":" if matches!(self.s(self.pv(p)), "public" | "private" | "protected") => return last,
                ")" | "]" => {
                    let (o, c) = if self.s(p) == ")" { ("(", ")") } else { ("[", "]") };
                    let mut d = 0;
                    j = p;
                    loop {
                        let x = self.s(j);
                        if x == c {
                            d += 1
                        } else if x == o {
                            d -= 1;
                            if d == 0 {
                                break;
                            }
                        }
                        if j == 0 {
                            break;
                        }
                        j -= 1
                    }
                    last = j
                }
                _ => {
                    j = p;
                    last = p
                }
            }
        }
    }
}

/// Attributes of kernel parameters that are not buffers, and their kinds in the runtime.
const BUILTIN: &[(&str, &str)] = &[
    ("thread_position_in_grid", "K_TPIG"),
    ("thread_position_in_threadgroup", "K_TPITG"),
    ("threadgroup_position_in_grid", "K_TGPIG"),
    ("thread_index_in_threadgroup", "K_TITG"),
    ("thread_index_in_simdgroup", "K_LANE"),
    ("simdgroup_index_in_threadgroup", "K_SG"),
    ("threads_per_grid", "K_TPG"),
    ("grid_size", "K_TPG"),
    ("threads_per_threadgroup", "K_TPTG"),
    ("threadgroups_per_grid", "K_TGPG"),
    ("simdgroups_per_threadgroup", "K_SPTG"),
    ("threads_per_simdgroup", "K_TPSG"),
    ("thread_execution_width", "K_TPSG"),
    ("dispatch_threads_per_threadgroup", "K_DTPTG"),
    ("thread_index_in_quadgroup", "K_QUADLANE"),
    ("quadgroup_index_in_threadgroup", "K_QUADGROUP"),
];
/// Words of C++ that Metal does not have.
const BANNED: &[&str] = &[
    "double",
    "new",
    "delete",
    "virtual",
    "throw",
    "try",
    "catch",
    "dynamic_cast",
    "typeid",
    "thread_local",
    "std",
    "goto",
    "assert",
    "printf",
    "malloc",
];
/// Address spaces.
const AS: &[&str] = &["device", "constant", "thread", "threadgroup"];

/// Is it the name of a vector type, as `float4`?
fn is_vec_name(s: &str) -> bool {
    let (h, d) = s.split_at(s.len().saturating_sub(1));
    matches!(d, "2" | "3" | "4")
        && matches!(
            h,
            "float"
                | "half"
                | "bfloat"
                | "int"
                | "uint"
                | "short"
                | "ushort"
                | "char"
                | "uchar"
                | "long"
                | "ulong"
                | "bool"
        )
}

/// `strict`: the result is only for -fsyntax-only with address spaces kept.
/// Translates a preprocessed source; `strict` keeps the address spaces and makes nothing to run.
pub fn translate(pre: &str, strict: bool) -> Translated {
    let (t, files) = lex(pre);
    let mut t = T { t, files, lints: vec![] };
    let mut kernels: Vec<Kernel> = vec![];
    let mut insts: Vec<(String, String)> = vec![];
    let mut fcs: HashSet<String> = HashSet::new();

    // banned words, C-style vector casts
    for i in 0..t.t.len() {
        if t.t[i].k == K::Id && BANNED.contains(&t.s(i)) && t.s(t.pv(i)) != "." {
            let m = format!("`{}` is not available in Metal", t.s(i));
            t.lint(i, m)
        }
        if t.s(i) == "(" && is_vec_name(t.s(t.nx(i))) {
            let c = t.nx(t.nx(i));
            let (n, p) = (t.nx(c), t.pv(i));
            if t.s(c) == ")"
                && n < t.t.len()
                && (t.t[n].k == K::Id || t.t[n].k == K::Num || matches!(t.s(n), "(" | "-" | "*"))
                && (p == usize::MAX || t.t[p].k != K::Id || t.s(p) == "return")
                && !AS.contains(&t.s(n))
                && t.s(n) != "const"
            {
                let v = t.t[t.nx(i)].s.clone();
                t.blank(i, c);
                t.t[i].s = format!("::msl::cc<{v}>{{}} ->* ");
            }
        }
    }
    // explicit instantiations with host names
    let mut i = 0;
    while i < t.t.len() {
        if t.s(i) == "template" && t.is_attr(t.nx(i)) {
            let mut e = i;
            while t.s(e) != ";" {
                if t.s(e) == "(" {
                    e = t.close(e)
                }
                e += 1
            }
            let (mut name, mut j) = (String::new(), i);
            let mut func = None;
            while j < e {
                if t.s(j) == "host_name" {
                    let c = t.close(t.nx(j));
                    for q in j..c {
                        if t.t[q].k == K::Str {
                            name += t.s(q).trim_matches('"')
                        }
                    }
                    j = c
                }
                if t.s(j) == "decltype" {
                    let o = t.nx(j);
                    func = Some(t.text(o + 1, t.close(o) - 1));
                    break;
                }
                if t.s(j) == "void" && func.is_none() {
                    let n = t.nx(j);
                    let lt = t.nx(n);
                    func = Some(if t.s(lt) == "<" { t.text(n, t.close(lt)) } else { t.text(n, n) });
                    break;
                }
                j += 1;
            }
            if let Some(f) = func {
                insts.push((name, f))
            }
            t.blank(i, e);
            i = e;
        }
        i += 1;
    }
    // kernels
    for i in 0..t.t.len() {
        if t.s(i) != "kernel" {
            continue;
        }
        let mut j = t.nx(i);
        let mut before = t.pv(i);
        if t.s(before) == "[" {
            // [[kernel]]
            before = t.pv(t.pv(before));
            while t.s(j) != "]" {
                j = t.nx(j)
            }
            j = t.nx(t.nx(j));
        }
        while t.is_attr(j) {
            j = t.nx(t.close(j))
        }
        if t.s(j) != "void" {
            continue;
        }
        let n = t.nx(j);
        let o = t.nx(n);
        if t.s(o) != "(" {
            continue;
        }
        let c = t.close(o);
        let b = t.nx(c);
        if t.s(b) != "{" {
            continue;
        }
        while before != usize::MAX && t.s(before) == "]" {
            while t.s(before) != "[" {
                before = t.pv(before)
            }
            before = t.pv(before);
            if t.s(before) == "[" {
                before = t.pv(before)
            }
        }
        let templ = before != usize::MAX && t.s(before) == ">";
        let mut params = vec![];
        let (mut p, mut next) = (t.nx(o), 0u32);
        let mut used: HashMap<u32, ()> = HashMap::new();
        while p < c {
            let (mut q, mut kind, mut ptr, mut attr_other) = (p, None, false, false);
            let pstart = p;
            while q < c && t.s(q) != "," {
                if t.is_attr(q) {
                    let e = t.close(q);
                    let mut a = t.nx(t.nx(q));
                    while a < e {
                        if t.t[a].k == K::Id {
                            let num = || -> u32 { t.s(t.nx(t.nx(a))).parse().unwrap_or(0) };
                            match t.s(a) {
                                "buffer" => kind = Some(("K_BUFFER", num())),
                                "threadgroup" => kind = Some(("K_TGMEM", num())),
                                x => {
                                    if let Some(k) = BUILTIN.iter().find(|k| k.0 == x) {
                                        kind = Some((k.1, 0))
                                    } else {
                                        attr_other = true
                                    }
                                }
                            }
                            if t.s(t.nx(a)) == "(" {
                                a = t.close(t.nx(a))
                            }
                        }
                        a = t.nx(a);
                    }
                    q = e;
                } else if matches!(t.s(q), "(" | "{" | "[") {
                    q = t.close(q)
                } else if t.s(q) == "<" {
                    let e = t.close(q);
                    if e != usize::MAX {
                        q = e
                    }
                } else if matches!(t.s(q), "*" | "&") {
                    ptr = true
                }
                q = t.nx(q);
            }
            let _ = attr_other;
            let k = match kind {
                Some(k) => k,
                None if ptr => ("K_BUFFER", next),
                None => {
                    t.lint(
                        pstart,
                        format!("kernel parameter `{}` is neither a buffer nor a built-in", t.text(pstart, q - 1)),
                    );
                    ("K_BUFFER", next)
                }
            };
            if k.0 == "K_BUFFER" {
                next = k.1 + 1;
                if k.1 > 30 {
                    t.lint(pstart, "buffer index above 30")
                }
                if used.insert(k.1, ()).is_some() {
                    t.lint(pstart, format!("buffer index {} used twice", k.1))
                }
            }
            params.push(k);
            p = t.nx(q);
        }
        let name = t.s(n).to_string();
        kernels.push(Kernel { name, templ, params, body: (b, t.close(b)) });
    }
    for i in 0..t.t.len() {
        if t.s(i) == "kernel" && t.t[i].k == K::Id {
            t.t[i].s.clear()
        }
    }
    // function constants
    for i in 0..t.t.len() {
        if t.s(i) == "function_constant" {
            let mut a = t.pv(i);
            while !(t.s(a) == "[" && t.s(t.pv(a)) == "[") {
                a = t.pv(a)
            }
            let a = t.pv(a);
            let e = t.close(a);
            if t.s(t.nx(e)) == ";" {
                let st = t.stmt_start(i);
                let num = t.text(t.nx(i) + 1, t.close(t.nx(i)) - 1);
                let name_i = t.pv(a);
                let ty: Vec<String> = (st..name_i)
                    .filter(|&q| {
                        t.t[q].k != K::Ws
                            && t.t[q].k != K::Hash
                            && !matches!(t.s(q), "constant" | "const" | "constexpr" | "static")
                    })
                    .map(|q| t.s(q).to_string())
                    .collect();
                let name = t.s(name_i).to_string();
                let end = t.nx(e);
                t.blank(st, end);
                t.t[st].s = format!(
                    "static {0} {1} = {{}}; static ::msl::FcReg msl_fc_{1}({2}, (void*)&{1}, sizeof({1}))",
                    ty.join(" "),
                    name,
                    num
                );
                t.t[end].s = ";".into();
                fcs.insert(name);
            }
        }
    }
    if !fcs.is_empty() {
        // constants derived from function constants become lazily evaluated
        let (mut i, mut depth) = (0, 0i32);
        while i < t.t.len() {
            match t.s(i) {
                "{" => depth += 1,
                "}" => depth -= 1,
                _ => {}
            }
            if depth == 0 && t.s(i) == "constant" && t.t[i].k == K::Id {
                let mut e = i;
                while e < t.t.len() && !matches!(t.s(e), ";" | "{" | "(") {
                    e += 1
                }
                let mut q = i;
                while q < e && t.s(q) != "=" {
                    q += 1
                }
                let mut end = q;
                while end < t.t.len() && t.s(end) != ";" {
                    end += 1
                }
                if q < e && (q..end).any(|x| fcs.contains(t.s(x))) {
                    let name_i = t.pv(q);
                    let name = t.s(name_i).to_string();
                    let ty = t.text(i + 1, name_i - 1).replace("constexpr", "").replace("const ", "");
                    let init = t.text(q + 1, end - 1);
                    let st = t.stmt_start(i);
                    t.blank(st, end);
                    t.t[st].s = format!(
                        "struct msl_lazy_{name} {{ operator {ty}() const; }}; static const msl_lazy_{name} {name}; inline msl_lazy_{name}::operator {ty}() const {{ return {init}; }}"
                    );
                    t.t[end].s = ";".into();
                    fcs.insert(name);
                }
            }
            i += 1;
        }
    }
    // all attributes go (kernel parameters have been read)
    for i in 0..t.t.len() {
        if t.is_attr(i) && t.t[i].s == "[" {
            let e = t.close(i);
            t.blank(i, e)
        }
    }
    // member functions that differ only in the address space of *this
    let mut heads: HashSet<String> = HashSet::new();
    for i in 0..t.t.len() {
        if t.s(i) != ")" {
            continue;
        }
        let (mut j, mut q, mut cst) = (t.nx(i), None, false);
        while matches!(t.s(j), "const" | "device" | "constant" | "threadgroup" | "thread") {
            if t.s(j) == "const" {
                cst = true
            } else {
                q = Some(j)
            }
            j = t.nx(j)
        }
        if !matches!(t.s(j), "=" | "{" | ":" | ";") {
            continue;
        }
        if q.is_none() && t.s(j) == ";" {
            continue;
        }
        let st = t.stmt_start(i);
        let head = format!("{} {}", t.text(st, i).replace(' ', ""), cst);
        let Some(q) = q else {
            heads.insert(head);
            continue;
        };
        if t.s(q) == "thread" {
            t.t[q].s.clear();
            heads.insert(head);
            continue;
        }
        if heads.contains(&head) || strict {
            let mut e = j;
            loop {
                match t.s(e) {
                    ";" => break,
                    "{" => {
                        e = t.close(e);
                        break;
                    }
                    "(" => e = t.close(e),
                    _ => {}
                }
                e += 1
            }
            t.blank(st, e);
        } else {
            t.t[q].s.clear();
            heads.insert(head);
        }
    }
    // with the address spaces erased, overloads and specialisations that differ only in them are duplicates: the first stays
    if !strict {
        t.dedupe()
    }
    // threadgroup variables become static storage, poisoned when first reached in a threadgroup
    for i in 0..t.t.len() {
        if t.s(i) != "threadgroup" {
            continue;
        }
        let p = t.pv(i);
        if p == usize::MAX || !(t.s(p).ends_with(';') || matches!(t.s(p), "{" | "}" | ":")) {
            continue;
        }
        // TYPE NAME SUFFIX [, NAME SUFFIX]... ;
        let (mut j, mut isptr, mut name) = (t.nx(i), false, None);
        let ty0 = j;
        let mut decls: Vec<(usize, usize)> = vec![]; // name, last token of the suffix
        while j < t.t.len() && t.s(j) != ";" {
            match t.s(j) {
                "*" | "&" | "(" | "{" | "=" => {
                    isptr = true;
                    break;
                }
                "<" => {
                    let e = t.close(j);
                    if e != usize::MAX {
                        j = e
                    }
                }
                "[" => j = t.close(j),
                "," => {
                    if let Some(n) = name.take() {
                        decls.push((n, t.pv(j)))
                    }
                }
                _ => {
                    if t.t[j].k == K::Id {
                        name = Some(j)
                    }
                }
            }
            j = t.nx(j);
        }
        if isptr {
            continue;
        }
        if let Some(n) = name {
            decls.push((n, t.pv(j)))
        }
        if decls.is_empty() {
            continue;
        }
        if !kernels.iter().any(|k| k.body.0 < i && i < k.body.1) {
            t.lint(i, "threadgroup variable outside a kernel function")
        }
        if strict {
            t.t[i].s = "static threadgroup".into();
            continue;
        }
        let ty = t.text(ty0, decls[0].0 - 1);
        let out: String = decls.iter().map(|&(n, e)| {
            let (nm, suf) = (t.s(n).to_string(), if e > n { t.text(n + 1, e) } else { String::new() });
            format!("using msl_t_{nm} = {ty} {suf}; static char msl_k_{nm}; msl_t_{nm}& {nm} = *(msl_t_{nm}*)::msl::tg_var(&msl_k_{nm}, sizeof(msl_t_{nm}), \"{nm}\")")
        }).collect::<Vec<_>>().join("; ");
        t.blank(i, j - 1);
        t.t[i].s = out;
    }
    // pointers and references in parameter lists need an address space
    for i in 0..t.t.len() {
        if t.s(i) != "(" {
            continue;
        }
        let c = t.close(i);
        if c == usize::MAX {
            continue;
        }
        let mut b = t.nx(c);
        while matches!(t.s(b), "const") {
            b = t.nx(b)
        }
        let p = t.pv(i);
        if t.s(b) != "{"
            || p == usize::MAX
            || t.t[p].k != K::Id
            || matches!(t.s(p), "if" | "for" | "while" | "switch" | "return")
        {
            continue;
        }
        if matches!(t.s(t.pv(p)), "," | ":") {
            continue;
        } // constructor initialiser
        let (mut q, mut has, mut ptr) = (t.nx(i), false, false);
        let mut bad = vec![];
        while q <= c {
            match t.s(q) {
                "," | ")" => {
                    if ptr && !has {
                        bad.push(q)
                    }
                    has = false;
                    ptr = false;
                    if q == c {
                        break;
                    }
                }
                "<" => {
                    let e = t.close(q);
                    if e != usize::MAX && e < c {
                        q = e
                    }
                }
                "[" | "(" => {
                    if t.s(q) == "[" {
                        ptr = true
                    }
                    q = t.close(q)
                }
                "*" | "&" => ptr = true,
                x if AS.contains(&x) => has = true,
                _ => {}
            }
            q = t.nx(q);
        }
        for q in bad {
            let l = t.pv(q);
            t.lint(l, format!("parameter ending in `{}`: pointer, reference or array without address space", t.s(l)))
        }
    }
    // expressions
    let mut i = 0;
    while i < t.t.len() {
        if t.t[i].k == K::Id {
            let s = t.s(i).to_string();
            if s == "static_cast" {
                t.t[i].s = "::msl::scast".into()
            } else if (is_vec_name(&s) && t.s(t.nx(i)) == "(") || (s == "vec" && t.s(t.nx(i)) == "<") {
                let e = if s == "vec" { t.close(t.nx(i)) } else { i };
                if e != usize::MAX && t.s(t.nx(e)) == "(" {
                    let p = t.pv(i);
                    let mut a = i;
                    if p != usize::MAX && t.s(p) == "::" {
                        let pp = t.pv(p);
                        if matches!(t.s(pp), "metal" | "simd") {
                            a = pp
                        }
                    }
                    let q = t.pv(a);
                    if q == usize::MAX || t.s(q) != "operator" {
                        t.t[a].s = format!("::msl::mk<{}", t.t[a].s);
                        t.t[e].s += ">";
                    }
                }
            }
        } else if t.t[i].k == K::Num {
            let s = t.s(i);
            if !s.starts_with("0x") && (s.ends_with('h') || s.ends_with('H')) {
                t.t[i].s = format!(
                    "half({}f)",
                    if s.contains('.') || s.contains('e') {
                        s[..s.len() - 1].to_string()
                    } else {
                        format!("{}.", &s[..s.len() - 1])
                    }
                )
            }
        }
        i += 1;
    }
    // output
    let mut out = Translated { lints: std::mem::take(&mut t.lints), ..Default::default() };
    out.cpp.push_str("#include \"msl.h\"\n");
    for x in &t.t {
        if x.k == K::Hash && x.s.contains("pragma") && x.s.contains("METAL") {
            continue;
        }
        out.cpp += &x.s;
    }
    out.cpp.push_str("\n# 1 \"<thunks>\"\n");
    if !strict {
        let mut n = 0;
        let mut reg = |cpp: &mut String, host: &str, f: &str, k: &Kernel| {
            let ps: String = k.params.iter().map(|p| format!("{{::msl::{}, {}}},", p.0, p.1)).collect();
            *cpp += &format!(
                "static const ::msl::Param msl_p{n}[] = {{{ps}}}; static ::msl::Reg msl_r{n}(\"{host}\", &::msl::ThunkOf<&{f}>::run, msl_p{n}, {}); static_assert(::msl::ThunkOf<&{f}>::n == {});\n",
                k.params.len(),
                k.params.len()
            );
            n += 1;
        };
        for k in kernels.iter().filter(|k| !k.templ) {
            reg(&mut out.cpp, &k.name, &k.name, k);
            out.kernels.push(k.name.clone())
        }
        for (host, f) in &insts {
            let base = f.split(|c: char| c == '<' || c.is_whitespace()).next().unwrap();
            if let Some(k) = kernels.iter().find(|k| k.name == base) {
                reg(&mut out.cpp, host, f, k);
                out.kernels.push(host.clone())
            } else {
                out.lints.push(format!("host_name {host}: no kernel {base}"))
            }
        }
    } else {
        // instantiate the templates so that their bodies are checked
        for (_, f) in &insts {
            out.cpp += &format!("static auto msl_i{} = &{f};\n", out.kernels.len());
            out.kernels.push(f.clone())
        }
    }
    out
}
