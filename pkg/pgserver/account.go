package pgserver

import (
	"errors"
	"fmt"
	"os"
	"os/user"
	"strconv"
	"syscall"
)

// account is the user that Postgres runs as when galley is root. A nil account is the user of this process.
type account struct {
	name     string
	uid, gid uint32
}

// chooseAccount returns the account for the cluster in dataDir. A cluster stays with the owner that it has: Postgres refuses
// to run on the files of someone else.
func chooseAccount(dataDir string) (*account, error) {
	if os.Geteuid() != 0 {
		return nil, nil //nolint:nilnil // nil is the user of this process, see account
	}
	info, err := os.Stat(dataDir)
	switch {
	case errors.Is(err, os.ErrNotExist):
		return defaultAccount()
	case err != nil:
		return nil, fmt.Errorf("find the owner of the data: %w", err)
	}
	stat, ok := info.Sys().(*syscall.Stat_t)
	if !ok || stat.Uid == 0 {
		return nil, fmt.Errorf("%s belongs to root, as whom Postgres refuses to run: chown it to the user who shall", dataDir)
	}
	return &account{name: "with uid " + strconv.FormatUint(uint64(stat.Uid), 10), uid: stat.Uid, gid: stat.Gid}, nil
}

func defaultAccount() (*account, error) {
	for _, name := range []string{"postgres", "nobody"} {
		found, err := user.Lookup(name)
		if err != nil {
			continue
		}
		uid, uidErr := strconv.ParseUint(found.Uid, 10, 32)
		gid, gidErr := strconv.ParseUint(found.Gid, 10, 32)
		if err := errors.Join(uidErr, gidErr); err != nil {
			return nil, fmt.Errorf("read the ids of user %s: %w", name, err)
		}
		return &account{name: name, uid: uint32(uid), gid: uint32(gid)}, nil
	}
	return nil, errors.New("postgres refuses to run as root, and there is neither a user postgres nor a user nobody: " +
		"run galley as another user")
}

func (a *account) String() string {
	if a == nil {
		return "of this process"
	}
	return a.name
}

// own gives path to the account.
func (a *account) own(path string) error {
	if a == nil {
		return nil
	}
	return os.Lchown(path, int(a.uid), int(a.gid))
}

// owns reports whether a directory entry belongs to the account.
func (a *account) owns(info os.FileInfo) bool {
	uid := uint32(os.Geteuid()) //nolint:gosec // uids are not negative
	if a != nil {
		uid = a.uid
	}
	stat, ok := info.Sys().(*syscall.Stat_t)
	return ok && stat.Uid == uid
}

// attributes puts a program in its own process group, so that Ctrl-C in a terminal reaches galley only, which then stops the
// server in good order, and drops root's rights.
func (a *account) attributes() *syscall.SysProcAttr {
	attr := &syscall.SysProcAttr{Setpgid: true}
	if a != nil {
		attr.Credential = &syscall.Credential{Uid: a.uid, Gid: a.gid}
	}
	return attr
}
