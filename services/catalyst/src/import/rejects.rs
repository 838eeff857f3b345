//! Writes the rejected rows to a CSV file that, once its rows are corrected, can itself be imported; the file has its name only when it is complete.

use std::{
    ffi::OsString,
    fs::{self, File},
    path::{Path, PathBuf},
};

use super::{Error, reader::Record, row::Reject};

/// Stand before the columns of the time log.
const COLUMNS: [&str; 4] = [
    "reject_line",
    "reject_external_id",
    "reject_reason",
    "reject_message",
];

/// The rejects file of one import, written beside its final name until [`Rejects::finish`].
pub struct Rejects {
    path: PathBuf,
    partial: PathBuf,
    file: csv::Writer<File>,
}

impl Rejects {
    /// Starts the file; an older one under `path` stays until this one is complete.
    pub fn create(path: &Path, header: &Record) -> Result<Self, Error> {
        let mut partial = OsString::from(path);
        partial.push(".partial");
        let partial = PathBuf::from(partial);
        let file = File::create(&partial).map_err(|source| Error::Rejects {
            path: path.to_owned(),
            source,
        })?;
        let file = csv::WriterBuilder::new().flexible(true).from_writer(file);
        let mut rejects = Self {
            path: path.to_owned(),
            partial,
            file,
        };
        rejects.write_row(COLUMNS.map(str::as_bytes), header)?;
        Ok(rejects)
    }

    /// Adds a row as it stood in the time log, after the reason why it was not imported.
    pub fn write(&mut self, reject: &Reject, record: &Record) -> Result<(), Error> {
        let line = reject.line.to_string();
        let fields = [
            &line,
            reject.external_id.as_str(),
            reject.reason.as_str(),
            &reject.message,
        ];
        self.write_row(fields.map(str::as_bytes), record)
    }

    /// Gives the file its name, in place of an older one; without rejects it has a header only, so that an old file is never taken for this import's.
    pub fn finish(mut self) -> Result<PathBuf, Error> {
        let failed = |source| Error::Rejects {
            path: self.path.clone(),
            source,
        };
        self.file.flush().map_err(failed)?;
        self.file.get_ref().sync_all().map_err(failed)?;
        fs::rename(&self.partial, &self.path).map_err(failed)?;
        Ok(self.path)
    }

    fn write_row(&mut self, reject: [&[u8]; 4], record: &Record) -> Result<(), Error> {
        self.file
            .write_record(reject.into_iter().chain(record.iter()))
            .map_err(|source| Error::Rejects {
                path: self.path.clone(),
                source: source.into(),
            })
    }
}

#[cfg(test)]
mod tests {
    use super::{
        super::{reader, row::Reason},
        *,
    };

    /// A folder of this test alone, gone at its end.
    struct Folder(PathBuf);

    impl Folder {
        fn new(test: &str) -> Self {
            let path = std::env::temp_dir()
                .join(format!("catalyst-rejects-{test}-{}", std::process::id()));
            fs::create_dir_all(&path).unwrap();
            Self(path)
        }
    }

    impl Drop for Folder {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    #[test]
    fn a_reject_keeps_its_row_and_the_file_can_be_read_again() {
        let folder = Folder::new("reread");
        let path = folder.0.join("rejects.csv");
        let mut rows =
            reader::tests::rows("id,note\n\n7,\"a\n\"\"b\"\"\"\n8,ragged,row\n", b',').unwrap();
        let mut rejects = Rejects::create(&path, rows.header()).unwrap();
        let mut record = Record::default();
        while rows.read(&mut record).unwrap() {
            let reject = Reject {
                line: record.line,
                external_id: "x".to_owned(),
                reason: Reason::Refused,
                message: "why, then".to_owned(),
            };
            rejects.write(&reject, &record).unwrap();
        }
        assert!(!path.exists());
        assert_eq!(rejects.finish().unwrap(), path);

        assert_eq!(
            fs::read_to_string(&path).unwrap(),
            "reject_line,reject_external_id,reject_reason,reject_message,id,note\n\
             3,x,refused,\"why, then\",7,\"a\n\"\"b\"\"\"\n\
             5,x,refused,\"why, then\",8,ragged,row\n"
        );
        let mut again = reader::Rows::open(&path, b',').unwrap();
        assert!(again.read(&mut record).unwrap());
        assert_eq!(record.iter().last(), Some(&b"a\n\"b\""[..]));
        assert_eq!(fs::read_dir(&folder.0).unwrap().count(), 1);
    }

    #[test]
    fn an_import_that_breaks_off_leaves_the_older_file_alone() {
        let folder = Folder::new("broken");
        let path = folder.0.join("rejects.csv");
        fs::write(&path, "older").unwrap();
        let rows = reader::tests::rows("id\n", b',').unwrap();
        drop(Rejects::create(&path, rows.header()).unwrap());
        assert_eq!(fs::read_to_string(&path).unwrap(), "older");
        Rejects::create(&path, rows.header())
            .unwrap()
            .finish()
            .unwrap();
        assert_ne!(fs::read_to_string(&path).unwrap(), "older");
    }

    #[test]
    fn a_folder_that_is_not_there_is_named() {
        let rows = reader::tests::rows("id\n", b',').unwrap();
        let error = Rejects::create(Path::new("missing/rejects.csv"), rows.header())
            .err()
            .unwrap();
        assert!(error.to_string().contains("missing/rejects.csv"), "{error}");
    }
}
