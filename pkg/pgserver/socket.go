package pgserver

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"syscall"
	"time"
)

// greetPatience is long for a server that only has to fork.
const greetPatience = 5 * time.Second

// maxSocketPath is the length that sockaddr_un leaves for the path of a socket on macOS, the shortest of our targets.
const maxSocketPath = 103

func socketFile(dir string) string { return filepath.Join(dir, ".s.PGSQL."+strconv.Itoa(port)) }

// prepareSocketDir returns the directory for the socket, which only the user who runs the server, and root, can enter. It is
// in the directory of the cluster, or, when its path would be too long there, in the one for temporary files, under a name
// that is the same at every start.
func (c *cluster) prepareSocketDir() (string, error) {
	dir := c.path(socketName)
	if len(socketFile(dir)) > maxSocketPath {
		sum := sha256.Sum256([]byte(c.home))
		name := "galley-" + hex.EncodeToString(sum[:8])
		if dir = filepath.Join(os.TempDir(), name); len(socketFile(dir)) > maxSocketPath {
			dir = filepath.Join("/tmp", name)
		}
	}
	err := os.Mkdir(dir, 0o700)
	if err == nil {
		return dir, c.as.own(dir)
	}
	if !errors.Is(err, os.ErrExist) {
		return "", err
	}
	// Anybody may create a directory in the one for temporary files: trust one that is ours only.
	info, err := os.Lstat(dir)
	if err != nil {
		return "", err
	}
	if !info.IsDir() || !c.as.owns(info) || info.Mode().Perm() != 0o700 {
		return "", fmt.Errorf("%s is not a directory that only the user %s can enter: delete it", dir, c.as)
	}
	return dir, nil
}

// errDead says that no server serves the socket.
var errDead = errors.New("no server answers")

// greet checks that a server serves the socket in dir, by asking it whether it speaks TLS: any answer will do. Being able to
// connect proves nothing yet, since a child of a killed postmaster holds the socket for a moment. An error other than errDead
// means that it cannot be told.
func greet(ctx context.Context, dir string) error {
	ctx, cancel := context.WithTimeout(ctx, greetPatience)
	defer cancel()
	var dialer net.Dialer
	conn, err := dialer.DialContext(ctx, "unix", socketFile(dir))
	if errors.Is(err, syscall.ECONNREFUSED) || errors.Is(err, os.ErrNotExist) {
		return errDead
	}
	if err != nil {
		return err
	}
	defer conn.Close() //nolint:errcheck // nothing is lost
	defer context.AfterFunc(ctx, func() { _ = conn.Close() })()
	sslRequest := binary.BigEndian.AppendUint32(nil, 8)
	sslRequest = binary.BigEndian.AppendUint32(sslRequest, 80877103)
	_, err = conn.Write(sslRequest)
	if err == nil {
		_, err = io.ReadFull(conn, make([]byte, 1))
	}
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if err != nil {
		return errDead
	}
	return nil
}
