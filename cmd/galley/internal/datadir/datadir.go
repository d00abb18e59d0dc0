// Package datadir is the directory in which one galley keeps everything:
//
//	lock          held while a galley runs on the directory
//	admin.key     the operator's API key
//	demo.key      the API key of the demo customer
//	secrets.key   the keys that customers' secrets are encrypted with, as package secret reads them: to change them, put a new one and a
//	              comma in front, and keep the old ones for what they have encrypted
//	audit.key     the key that the audit log is signed with; keep a copy, and never another log beside it under the same key
//	audit.pub     what verifies the signatures
//	sandbox.url   where the demo customer's recipes find the sandbox
//	database.url  how to reach the private Postgres while it runs
//	nats.url      how to reach the NATS server in the process while it runs
//	nats/         the streams
//	postgres/     the database, see package pgserver
package datadir

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"syscall"
)

// ErrInUse says that another galley runs on the directory.
var ErrInUse = errors.New("another galley uses the data directory")

// Dir is the path of a data directory.
type Dir string

// New makes path absolute. It touches no file.
func New(path string) (Dir, error) {
	absolute, err := filepath.Abs(path)
	if err != nil {
		return "", fmt.Errorf("find the data directory: %w", err)
	}
	return Dir(absolute), nil
}

// AdminKey is the path of the file with the operator's key.
func (d Dir) AdminKey() string { return d.join("admin.key") }

// DemoKey is the path of the file with the demo customer's key.
func (d Dir) DemoKey() string { return d.join("demo.key") }

// SecretsKey is the path of the file with the keys of customers' secrets.
func (d Dir) SecretsKey() string { return d.join("secrets.key") }

// AuditKey is the path of the file with the key that signs the audit log.
func (d Dir) AuditKey() string { return d.join("audit.key") }

// AuditPublicKey is the path of the file with the key that verifies what the audit log signed.
func (d Dir) AuditPublicKey() string { return d.join("audit.pub") }

// Directory is the path of the file with the URL of the business directory that the demo customer's recipes search.
func (d Dir) Directory() string { return d.join("sandbox.url") }

// DatabaseURL is the path of the file with the URL of the private Postgres.
func (d Dir) DatabaseURL() string { return d.join("database.url") }

// NATSURL is the path of the file with the URL of the NATS server in the process.
func (d Dir) NATSURL() string { return d.join("nats.url") }

// NATS is the directory of the streams.
func (d Dir) NATS() string { return d.join("nats") }

// Postgres is the directory of the private cluster.
func (d Dir) Postgres() string { return d.join("postgres") }

func (d Dir) join(name string) string { return filepath.Join(string(d), name) }

// Lock creates the directory when it is missing and takes it for this process; release gives it back. The kernel does so, too,
// when the process is killed. The error is ErrInUse, with the other process, when another one has it.
func (d Dir) Lock() (release func() error, err error) {
	mode := os.FileMode(0o700)
	if os.Geteuid() == 0 {
		mode = 0o711 // Postgres runs as another user then and has to pass through; what is secret has its own mode
	}
	if err := os.MkdirAll(string(d), mode); err != nil {
		return nil, fmt.Errorf("make the data directory: %w", err)
	}
	file, err := os.OpenFile(d.join("lock"), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("lock the data directory: %w", err)
	}
	if err := d.take(file); err != nil {
		return nil, errors.Join(err, file.Close())
	}
	return file.Close, nil
}

func (d Dir) take(file *os.File) error {
	err := syscall.Flock(int(file.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
	if errors.Is(err, syscall.EWOULDBLOCK) {
		holder, err := os.ReadFile(file.Name())
		if err != nil {
			return fmt.Errorf("read the lock of the data directory: %w", err)
		}
		return fmt.Errorf("%w %s: stop process %s, or choose another directory", ErrInUse, d, bytes.TrimSpace(holder))
	}
	if err == nil {
		err = file.Truncate(0)
	}
	if err == nil {
		_, err = file.WriteAt([]byte(strconv.Itoa(os.Getpid())+"\n"), 0)
	}
	if err != nil {
		return fmt.Errorf("lock the data directory: %w", err)
	}
	return nil
}

// Read returns the one line that a file of the directory holds, and "" when there is no such file.
func Read(path string) (string, error) {
	text, err := os.ReadFile(path)
	if errors.Is(err, os.ErrNotExist) {
		return "", nil
	}
	return string(bytes.TrimSpace(text)), err
}

// Write stores one line in a file that only its owner can read, in one step: a reader sees the old line or the new one.
func Write(path, line string) error {
	temp, err := os.CreateTemp(filepath.Dir(path), filepath.Base(path)+"-") // made with mode 0600
	if err != nil {
		return err
	}
	_, err = temp.WriteString(line + "\n")
	err = errors.Join(err, temp.Sync(), temp.Close())
	if err == nil {
		err = os.Rename(temp.Name(), path)
	}
	if err != nil {
		return errors.Join(err, os.Remove(temp.Name()))
	}
	return nil
}
