package pgserver

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

var settingName = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_.]*$`)

func isOneLine(s string) bool { return !strings.ContainsAny(s, "\r\n\x00") }

// hba lets the superuser and the services' roles in without a password: only the user who runs the server, and root, can
// enter the directory of the socket. Replication is for pg_basebackup.
const hba = "local all all trust\nlocal replication all trust\n"

// writeSettings writes the server's configuration files and reports whether they differ from those of the last start.
func (c *cluster) writeSettings(ctx context.Context, socketDir string) (changed bool, err error) {
	settings := c.settings(socketDir)
	if c.supportsLZ4(ctx) {
		settings["default_toast_compression"] = "lz4"
		settings["wal_compression"] = "lz4"
	}
	maps.Copy(settings, c.cfg.Settings)
	var conf strings.Builder
	conf.WriteString("# Written by galley at every start. Change a setting with ALTER SYSTEM, which wins over this file.\n")
	for _, name := range slices.Sorted(maps.Keys(settings)) {
		fmt.Fprintf(&conf, "%s = '%s'\n", name, strings.ReplaceAll(settings[name], "'", "''"))
	}
	confChanged, err := replaceFile(c.path(confName), conf.String())
	if err != nil {
		return false, err
	}
	hbaChanged, err := replaceFile(c.path(hbaName), hba)
	return confChanged || hbaChanged, err
}

// settings are for a small server next to the programs that use it. What is absent is best left at Postgres' default.
func (c *cluster) settings(socketDir string) map[string]string {
	onOff := map[bool]string{true: "on", false: "off"}
	return map[string]string{
		"listen_addresses":            "",
		"port":                        strconv.Itoa(port),
		"unix_socket_directories":     socketDir,
		"unix_socket_permissions":     "0700",
		"hba_file":                    c.path(hbaName),
		"max_connections":             "100",
		"fsync":                       onOff[!c.cfg.NoSync],
		"full_page_writes":            onOff[!c.cfg.NoSync],
		"synchronous_commit":          "on",
		"shared_buffers":              "128MB",
		"max_wal_size":                "2GB",
		"min_wal_size":                "256MB",
		"checkpoint_timeout":          "15min",
		"jit":                         "off", // compiling a query takes longer than our queries do
		"autovacuum_naptime":          "20s", // balances are updated all the time: keep their tables small
		"timezone":                    "UTC",
		"log_timezone":                "UTC",
		"log_line_prefix":             "%m [%p] %q%u@%d ",
		"log_checkpoints":             "off",
		"log_autovacuum_min_duration": "-1",
	}
}

// supportsLZ4 asks the server program, since it depends on how it was built.
func (c *cluster) supportsLZ4(ctx context.Context) bool {
	return c.command(ctx, "postgres", "-C", "wal_compression", "-c", "wal_compression=lz4", "-c", "config_file="+os.DevNull,
		"-D", c.path(dataName)).Run() == nil
}

// replaceFile gives path the content in one step and reports whether it had another. The files are written by root but read
// by the server, hence the mode; they hold no secret.
func replaceFile(path, content string) (changed bool, err error) {
	old, err := os.ReadFile(path)
	if err == nil && bytes.Equal(old, []byte(content)) {
		return false, nil
	}
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return false, err
	}
	temp, err := os.CreateTemp(filepath.Dir(path), filepath.Base(path)+"-")
	if err != nil {
		return false, err
	}
	_, err = temp.WriteString(content)
	err = errors.Join(err, temp.Chmod(0o644), temp.Close())
	if err == nil {
		err = os.Rename(temp.Name(), path)
	}
	if err != nil {
		return false, errors.Join(err, os.Remove(temp.Name()))
	}
	return true, nil
}
