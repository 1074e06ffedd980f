//! The origin: a Django project as its tutorial would leave it, made anew in `target/apps`.
//!
//! Never changes what Django sends: its own admin, sessions, forms and static files, as published.

use std::collections::BTreeMap;
use std::fs;
use std::io::ErrorKind;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use crate::process::{Doing, Failure, end, run, wait_until_it_starts};
use crate::setup;

/// Where the project's static files are.
pub(super) const STATIC: &str = "/static/";

/// A running Django; it ends when this is dropped.
pub(super) struct Django {
    child: Child,
    pub(super) address: SocketAddr,
    log: PathBuf,
}

impl Django {
    /// # Errors
    /// The packages are not there, or Django does not start.
    pub(super) fn start(folder: &Path) -> Result<Self, Failure> {
        let packages = setup::python_path()?;
        let python = |arguments: &[&str]| {
            let mut command = Command::new("python3");
            command
                .args(arguments)
                .current_dir(folder)
                .env("PYTHONPATH", &packages);
            // The project's own files are all that it may read.
            command
                .env_remove("DJANGO_SETTINGS_MODULE")
                .env("PYTHONDONTWRITEBYTECODE", "1");
            command.stdin(Stdio::null());
            command
        };
        write_project(folder)?;
        run(&mut python(&[
            "manage.py",
            "migrate",
            "--no-input",
            "--verbosity",
            "0",
        ]))?;
        run(&mut python(&["members.py"]))?;

        let address = free_address()?;
        let log = folder.join("origin.log");
        let output = fs::File::create(&log).doing("making the origin's log")?;
        let errors = output.try_clone().doing("making the origin's log")?;
        let mut server = python(&["-u", "manage.py", "runserver", "--noreload"]);
        server
            .arg(address.to_string())
            .stdout(output)
            .stderr(errors);
        let child = server.spawn().doing("starting Django")?;
        let mut django = Self {
            child,
            address,
            log,
        };
        django.wait_until_it_listens()?;
        Ok(django)
    }

    /// The positive control by Django's own log: it sent each file whole once, whatever anybody
    /// asked for; after that it was asked at most whether the file had changed.
    ///
    /// # Errors
    /// A file was sent twice, or the log names none.
    pub(super) fn sent_each_static_file_once(&self) -> Result<(), Failure> {
        let log = fs::read_to_string(&self.log).doing("reading the origin's log")?;
        let sent = files_sent(&log);
        let more = sent.iter().filter(|(_, times)| **times > 1);
        let more: Vec<String> = more
            .map(|(path, times)| format!("{path} {times} times"))
            .collect();
        if sent.is_empty() {
            return Err(Failure::new("Django's log names no static file"));
        }
        if more.is_empty() {
            return Ok(());
        }
        Err(Failure::new(format!("Django sent {}", more.join(", "))))
    }

    fn wait_until_it_listens(&mut self) -> Result<(), Failure> {
        let address = self.address;
        let listens = || TcpStream::connect(address).is_ok();
        wait_until_it_starts("Django", &mut self.child, START_MAX, listens).map_err(|failure| {
            let said = fs::read_to_string(&self.log).unwrap_or_default();
            Failure::new(format!("{failure}:\n{said}"))
        })
    }
}

impl Drop for Django {
    fn drop(&mut self) {
        end(&mut self.child);
    }
}

/// How often each static file went out whole, by lines such as
/// `[23/Nov/2026 07:00:00] "GET /static/a.css HTTP/1.1" 200 123`.
fn files_sent(log: &str) -> BTreeMap<&str, u32> {
    let mut sent = BTreeMap::new();
    for line in log.lines() {
        let mut parts = line.split('"').skip(1);
        let (Some(request), Some(outcome)) = (parts.next(), parts.next()) else {
            continue;
        };
        let target = request
            .split(' ')
            .nth(1)
            .filter(|target| target.starts_with(STATIC));
        let Some(target) = target.filter(|_| outcome.trim_start().starts_with("200")) else {
            continue;
        };
        *sent.entry(target).or_default() += 1;
    }
    sent
}

fn write_project(folder: &Path) -> Result<(), Failure> {
    if let Err(error) = fs::remove_dir_all(folder)
        && error.kind() != ErrorKind::NotFound
    {
        return Err(Failure::new(format!(
            "removing {}: {error}",
            folder.display()
        )));
    }
    for (name, text) in [
        ("manage.py", MANAGE),
        ("project/settings.py", SETTINGS),
        ("project/urls.py", URLS),
        ("members.py", MEMBERS),
    ] {
        let path = folder.join(name);
        let parent = path.parent().expect("a file in the project has a folder");
        fs::create_dir_all(parent).doing(format_args!("making {}", parent.display()))?;
        fs::write(&path, text).doing(format_args!("writing {}", path.display()))?;
    }
    Ok(())
}

/// A port that was free a moment ago: `runserver` takes one, but does not say which it took.
fn free_address() -> Result<SocketAddr, Failure> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).doing("looking for a free port")?;
    listener.local_addr().doing("looking for a free port")
}

const START_MAX: Duration = Duration::from_secs(30);

const MANAGE: &str = r#"import os
import sys

from django.core.management import execute_from_command_line

os.environ["DJANGO_SETTINGS_MODULE"] = "project.settings"
execute_from_command_line(sys.argv)
"#;

const SETTINGS: &str = r#"from pathlib import Path

BASE_DIR = Path(__file__).resolve().parent.parent
SECRET_KEY = "a project made by a test, for the length of the test"
DEBUG = True
ALLOWED_HOSTS = ["127.0.0.1"]
INSTALLED_APPS = [
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "django.contrib.staticfiles",
]
MIDDLEWARE = [
    "django.middleware.security.SecurityMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
]
ROOT_URLCONF = "project.urls"
TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
            ]
        },
    }
]
DATABASES = {
    "default": {
        "ENGINE": "django.db.backends.sqlite3",
        "NAME": BASE_DIR / "db.sqlite3",
        # Two members log in at once, and SQLite has one writer.
        "OPTIONS": {"timeout": 20, "transaction_mode": "IMMEDIATE"},
    }
}
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
# A slow hash is right for a site and only slow for a test.
PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]
USE_TZ = True
STATIC_URL = "static/"
"#;

const URLS: &str = r#"from django.contrib import admin
from django.urls import path

urlpatterns = [path("admin/", admin.site.urls)]
"#;

/// Each member may change users and groups; the test has each visit only what is their own.
const MEMBERS: &str = r#"import os

os.environ["DJANGO_SETTINGS_MODULE"] = "project.settings"

import django

django.setup()

from django.contrib.auth.models import Group, Permission, User

for number, (name, first, last) in enumerate(
    [("alice", "Alice", "Amanohashi"), ("boris", "Boris", "Utsukushigahara")], start=1
):
    user = User.objects.create_user(
        name,
        f"{name}.{last.lower()}@example.test",
        f"{name} has a password",
        first_name=first,
        last_name=last,
        is_staff=True,
    )
    allowed = ["view_user", "change_user", "view_group", "change_group"]
    user.user_permissions.set(Permission.objects.filter(codename__in=allowed))
    Group.objects.create(name=f"Reading circle {number}")
    assert user.pk == number
"#;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_sent_whole_are_counted_by_path() {
        let log = "Starting\n\
                   [x] \"GET /static/a.css HTTP/1.1\" 200 12\n\
                   [x] \"GET /static/a.css HTTP/1.1\" 304 0\n\
                   [x] \"GET /static/b.js HTTP/1.1\" 200 12\n\
                   [x] \"GET /static/b.js HTTP/1.1\" 200 12\n\
                   [x] \"GET /admin/ HTTP/1.1\" 200 12\n";
        let sent = files_sent(log);
        assert!(
            sent.into_iter()
                .eq([("/static/a.css", 1), ("/static/b.js", 2)])
        );
    }
}
