//! Streams the records of a time log, plain or compressed, in constant memory; every record knows the line it starts on.

use std::{
    fs::File,
    io::{self, BufRead, BufReader, Cursor, Read},
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use csv_core::ReadRecordResult;

use super::Error;

/// A record longer than this has lost its closing quote; without a bound it would swallow the rest of the file.
const MAX_RECORD: usize = 1 << 20;

const BUFFER: usize = 1 << 16;

const GZIP: &[u8] = b"\x1f\x8b";
const XZ: &[u8] = b"\xfd7zXZ\0";
const UTF8_BOM: &[u8] = b"\xef\xbb\xbf";

/// First bytes of what people take for CSV: what it is, what to do.
const FOREIGN: &[(&[u8], &str, &str)] = &[
    (b"\xff\xfe", "UTF-16 text", "save it as UTF-8"),
    (b"\xfe\xff", "UTF-16 text", "save it as UTF-8"),
    (
        b"PK\x03\x04",
        "an Excel workbook or a zip archive",
        "export it as CSV, or unpack it",
    ),
    (
        b"\x28\xb5\x2f\xfd",
        "compressed with zstd",
        "unpack it, or pack it with gzip or xz",
    ),
    (
        b"BZh",
        "compressed with bzip2",
        "unpack it, or pack it with gzip or xz",
    ),
];

/// The records of one time log, in order, after its header.
pub struct Rows {
    path: PathBuf,
    total_bytes: u64,
    bytes_read: Arc<AtomicU64>,
    header: Record,
    records: Records,
}

impl Rows {
    /// Opens a file and reads its header; gzip and xz are recognized by their content, whatever the name.
    pub fn open(path: &Path, delimiter: u8) -> Result<Self, Error> {
        let opened = File::open(path).and_then(|file| Ok((file.metadata()?.len(), file)));
        let (total_bytes, file) = opened.map_err(|source| Error::Open {
            path: path.to_owned(),
            source,
        })?;
        Self::from_reader(path, file, total_bytes, delimiter)
    }

    pub(super) fn from_reader(
        path: &Path,
        source: impl Read + Send + 'static,
        total_bytes: u64,
        delimiter: u8,
    ) -> Result<Self, Error> {
        let broken = |source| Error::Read {
            path: path.to_owned(),
            line: 1,
            source,
        };
        let bytes_read = Arc::new(AtomicU64::new(0));
        let counted = Counted {
            inner: source,
            count: Arc::clone(&bytes_read),
        };
        let (magic, packed) = peek(counted).map_err(broken)?;
        let unpacked: Box<dyn Read + Send> = if magic.starts_with(GZIP) {
            Box::new(flate2::read::MultiGzDecoder::new(packed))
        } else if magic.starts_with(XZ) {
            Box::new(liblzma::read::XzDecoder::new_multi_decoder(packed))
        } else {
            Box::new(packed)
        };
        let (head, mut text) = peek(unpacked).map_err(broken)?;
        if let Some((_, what, remedy)) = FOREIGN
            .iter()
            .find(|(signature, ..)| head.starts_with(signature))
        {
            return Err(Error::NotCsv {
                path: path.to_owned(),
                what,
                remedy,
            });
        }
        if head.starts_with(UTF8_BOM) {
            text.read_exact(&mut [0; UTF8_BOM.len()]).map_err(broken)?;
        }
        let mut records = Records {
            text: BufReader::with_capacity(BUFFER, Box::new(text)),
            parser: csv_core::ReaderBuilder::new().delimiter(delimiter).build(),
        };
        let mut header = Record::default();
        if !records.read(&mut header).map_err(broken)? {
            let remedy = "give a file whose first row names the columns";
            return Err(Error::NotCsv {
                path: path.to_owned(),
                what: "empty",
                remedy,
            });
        }
        if header.iter().any(|name| name.contains(&0)) {
            return Err(Error::NotCsv {
                path: path.to_owned(),
                what: "not text",
                remedy: "give CSV in UTF-8",
            });
        }
        Ok(Self {
            path: path.to_owned(),
            total_bytes,
            bytes_read,
            header,
            records,
        })
    }

    /// Reads the next record into `record`; false at the end of the file.
    pub fn read(&mut self, record: &mut Record) -> Result<bool, Error> {
        self.records.read(record).map_err(|source| Error::Read {
            path: self.path.clone(),
            line: record.line,
            source,
        })
    }

    /// The names of the columns.
    pub fn header(&self) -> &Record {
        &self.header
    }

    /// The file as it was opened.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The size of the file as it lies on the disk.
    pub fn total_bytes(&self) -> u64 {
        self.total_bytes
    }

    /// How much of [`Rows::total_bytes`] has been read, for a progress bar; may be asked from another thread.
    pub fn bytes_read(&self) -> Arc<AtomicU64> {
        Arc::clone(&self.bytes_read)
    }
}

/// The fields of one row, unquoted, as bytes; reused from row to row.
#[derive(Debug, Clone, Default)]
pub struct Record {
    /// The line on which the row starts, the first line of the file being 1.
    pub line: u64,
    bytes: Vec<u8>,
    /// Where each field ends in `bytes`; only the first `fields` are of this row.
    ends: Vec<usize>,
    fields: usize,
}

impl Record {
    /// The number of fields.
    pub fn len(&self) -> usize {
        self.fields
    }

    /// Whether there is no field.
    pub fn is_empty(&self) -> bool {
        self.fields == 0
    }

    /// The field at `index`, the first being 0.
    pub fn get(&self, index: usize) -> Option<&[u8]> {
        let ends = self.ends.get(..self.fields)?;
        let end = *ends.get(index)?;
        let start = index
            .checked_sub(1)
            .and_then(|previous| ends.get(previous))
            .copied()
            .unwrap_or(0);
        self.bytes.get(start..end)
    }

    /// The fields in order.
    pub fn iter(&self) -> impl Iterator<Item = &[u8]> {
        (0..self.len()).filter_map(|index| self.get(index))
    }
}

/// `csv::Reader` takes the line of a record before it skips blank lines and the second half of a CRLF.
/// That would put every line number of a Windows file off by one, so the parser below it is driven here.
struct Records {
    text: BufReader<Box<dyn Read + Send>>,
    parser: csv_core::Reader,
}

impl Records {
    fn read(&mut self, record: &mut Record) -> io::Result<bool> {
        record.line = self.parser.line();
        record.fields = 0;
        if !self.skip_line_ends()? {
            return Ok(false);
        }
        record.line = self.parser.line();
        let (mut taken, mut length) = (0, 0);
        loop {
            let input = self.text.fill_buf()?;
            let at_end = input.is_empty();
            // The parser takes the end of the file for the end of any record; a line end only ends one whose quotes are closed.
            let input = if at_end { b"\n" } else { input };
            let bytes = record.bytes.get_mut(length..).unwrap_or_default();
            let ends = record.ends.get_mut(record.fields..).unwrap_or_default();
            let (result, consumed, written, ended) = self.parser.read_record(input, bytes, ends);
            self.text.consume(if at_end { 0 } else { consumed });
            taken += consumed;
            length += written;
            record.fields += ended;
            match result {
                ReadRecordResult::Record => return Ok(true),
                ReadRecordResult::InputEmpty if at_end => return Err(endless()),
                _ if taken > MAX_RECORD => return Err(endless()),
                ReadRecordResult::OutputFull => record.bytes.resize((length * 2).max(256), 0),
                ReadRecordResult::OutputEndsFull => {
                    record.ends.resize((record.fields * 2).max(16), 0);
                }
                ReadRecordResult::InputEmpty | ReadRecordResult::End => {}
            }
        }
    }

    /// False at the end of the file.
    fn skip_line_ends(&mut self) -> io::Result<bool> {
        loop {
            match self.text.fill_buf()?.first() {
                None => return Ok(false),
                Some(b'\r') => {}
                Some(b'\n') => self.parser.set_line(self.parser.line() + 1),
                Some(_) => return Ok(true),
            }
            self.text.consume(1);
        }
    }
}

fn endless() -> io::Error {
    io::Error::new(
        io::ErrorKind::InvalidData,
        "the row has no end, as when a quote is never closed",
    )
}

/// Counts what is read from the disk.
struct Counted<R> {
    inner: R,
    count: Arc<AtomicU64>,
}

impl<R: Read> Read for Counted<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.inner.read(buffer)?;
        self.count.fetch_add(read as u64, Ordering::Relaxed);
        Ok(read)
    }
}

/// The first bytes of a stream, and the stream with those bytes still in front.
fn peek<R: Read>(mut stream: R) -> io::Result<(Vec<u8>, impl Read + use<R>)> {
    let mut head = Vec::new();
    stream
        .by_ref()
        .take(XZ.len() as u64)
        .read_to_end(&mut head)?;
    Ok((head.clone(), Cursor::new(head).chain(stream)))
}

#[cfg(test)]
pub(super) mod tests {
    use std::io::Write;

    use proptest::prelude::*;

    use super::*;

    pub(in super::super) fn rows(
        content: impl Into<Vec<u8>>,
        delimiter: u8,
    ) -> Result<Rows, Error> {
        let content = content.into();
        let length = content.len() as u64;
        Rows::from_reader(
            Path::new("log.csv"),
            Cursor::new(content),
            length,
            delimiter,
        )
    }

    fn read(content: impl Into<Vec<u8>>) -> Result<Vec<(u64, Vec<String>)>, Error> {
        let mut rows = rows(content, b',')?;
        let mut all = vec![strings(&rows.header)];
        let mut record = Record::default();
        while rows.read(&mut record)? {
            all.push(strings(&record));
        }
        Ok(all)
    }

    fn strings(record: &Record) -> (u64, Vec<String>) {
        (
            record.line,
            record
                .iter()
                .map(|field| String::from_utf8_lossy(field).into_owned())
                .collect(),
        )
    }

    fn row(line: u64, fields: &[&str]) -> (u64, Vec<String>) {
        (line, fields.iter().map(ToString::to_string).collect())
    }

    fn gzip(content: &[u8]) -> Vec<u8> {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
        encoder.write_all(content).unwrap();
        encoder.finish().unwrap()
    }

    fn xz(content: &[u8]) -> Vec<u8> {
        let mut encoder = liblzma::write::XzEncoder::new(Vec::new(), 1);
        encoder.write_all(content).unwrap();
        encoder.finish().unwrap()
    }

    #[test]
    fn plain_gzip_and_xz_are_told_apart_by_content() {
        let plain = b"a,b\n1,2\n";
        for content in [plain.to_vec(), gzip(plain), xz(plain)] {
            assert_eq!(
                read(content).unwrap(),
                [row(1, &["a", "b"]), row(2, &["1", "2"])]
            );
        }
    }

    #[test]
    fn compressed_files_that_were_concatenated_are_read_whole() {
        for pack in [gzip, xz] {
            let content = [pack(b"a,b\n1,2\n"), pack(b"3,4\n")].concat();
            assert_eq!(read(content).unwrap().len(), 3);
        }
    }

    #[test]
    fn a_compressed_file_that_breaks_off_is_an_error_and_not_the_end() {
        let content: String = std::iter::once("a,b\n".to_owned())
            .chain((0..50_000).map(|n| format!("{n},{}\n", n * 7919)))
            .collect();
        for pack in [gzip, xz] {
            let mut packed = pack(content.as_bytes());
            packed.truncate(packed.len() - 20);
            assert!(matches!(read(packed), Err(Error::Read { line: 2.., .. })));
        }
    }

    #[test]
    fn lines_are_those_of_an_editor_whatever_the_line_ends() {
        let text = "a,b\n1,2\n\n\n3,\"x\ny\"\n4,5";
        let expected = [
            row(1, &["a", "b"]),
            row(2, &["1", "2"]),
            row(5, &["3", "x\ny"]),
            row(7, &["4", "5"]),
        ];
        assert_eq!(read(text).unwrap(), expected);
        let windows: Vec<_> = read(text.replace('\n', "\r\n"))
            .unwrap()
            .iter()
            .map(|(line, _)| *line)
            .collect();
        assert_eq!(windows, [1, 2, 5, 7]);
    }

    #[test]
    fn a_byte_order_mark_is_no_part_of_the_first_column() {
        let content = b"\xef\xbb\xbfa,b\n1,2\n";
        for content in [content.to_vec(), gzip(content)] {
            assert_eq!(
                read(content).unwrap(),
                [row(1, &["a", "b"]), row(2, &["1", "2"])]
            );
        }
    }

    #[test]
    fn quotes_hold_delimiters_newlines_and_quotes() {
        let read = read("a,b\n\"x, \"\"y\"\"\r\nz\",2\n").unwrap();
        assert_eq!(read.get(1), Some(&row(2, &["x, \"y\"\r\nz", "2"])));
    }

    #[test]
    fn another_delimiter_leaves_commas_alone() {
        let mut rows = rows("a;b\n7,5;2\n", b';').unwrap();
        let mut record = Record::default();
        assert!(rows.read(&mut record).unwrap());
        assert_eq!(strings(&record), row(2, &["7,5", "2"]));
    }

    #[test]
    fn what_is_no_csv_is_named_with_a_remedy() {
        for (content, expected) in [
            (&b"\xff\xfea\0,\0"[..], "UTF-16"),
            (b"PK\x03\x04....", "Excel"),
            (b"BZh91AY", "bzip2"),
            (b"a\0,\0b\0\n\0", "not text"),
            (b"", "empty"),
            (b"\n\r\n", "empty"),
        ] {
            let error = rows(content, b',').err().unwrap().to_string();
            assert!(
                error.contains("log.csv") && error.contains(expected),
                "{error}"
            );
        }
    }

    #[test]
    fn a_file_that_is_not_there_is_named() {
        let error = Rows::open(Path::new("missing.csv"), b',')
            .err()
            .unwrap()
            .to_string();
        assert!(error.contains("missing.csv"), "{error}");
    }

    #[test]
    fn a_quote_that_is_never_closed_does_not_swallow_the_rows_below() {
        for rest in [b"x".repeat(4 * MAX_RECORD), b"\n4,5\n".to_vec(), Vec::new()] {
            let content = [&b"a,b\n1,2\n3,\""[..], &rest].concat();
            assert!(matches!(read(content), Err(Error::Read { line: 3, .. })));
        }
        assert_eq!(read("a,b\n1,\"2\"").unwrap().len(), 2);
    }

    #[test]
    fn a_row_of_endless_fields_is_refused() {
        let content = [&b"a,b\n"[..], &b",".repeat(4 * MAX_RECORD)].concat();
        assert!(matches!(read(content), Err(Error::Read { line: 2, .. })));
    }

    #[test]
    fn all_bytes_are_counted() {
        let content = gzip(b"a,b\n1,2\n");
        let mut rows = rows(content, b',').unwrap();
        while rows.read(&mut Record::default()).unwrap() {}
        assert_eq!(
            rows.bytes_read().load(Ordering::Relaxed),
            rows.total_bytes()
        );
    }

    proptest! {
        #[test]
        fn what_a_csv_writer_wrote_is_read_back(
            written in prop::collection::vec(prop::collection::vec("[a-z,;\"\r\n ]{0,300}", 3), 1..8),
        ) {
            let mut writer = csv::Writer::from_writer(Vec::new());
            for record in &written {
                writer.write_record(record).unwrap();
            }
            let read: Vec<_> = read(writer.into_inner().unwrap()).unwrap().into_iter().map(|(_, fields)| fields).collect();
            prop_assert_eq!(read, written);
        }
    }
}
