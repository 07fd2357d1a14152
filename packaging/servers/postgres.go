package servers

import (
	"context"
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// Cluster is a running PostgreSQL server.
type Cluster struct {
	Dir  string
	Port int

	bin  string
	args []string
	attr *syscall.SysProcAttr
	proc *process
}

func postgresBinary() (string, error) {
	return find("postgres", "/usr/lib/postgresql/*/bin/postgres", "/opt/homebrew/opt/postgresql@*/bin/postgres")
}

// sharedCluster is one server for all tests of a process: a database is cheap, a server is not.
var sharedCluster = sync.OnceValues(func() (*Cluster, error) {
	sweep()
	dir := clusterDir(strconv.Itoa(os.Getpid()))
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("make a directory for PostgreSQL: %w", err)
	}
	return StartPostgres(context.Background(), dir)
})

func clusterDir(pid string) string { return filepath.Join(os.TempDir(), "heimdall-postgres-"+pid) }

// sweep removes the clusters of test processes that have ended: a process cannot clean up after its own end.
func sweep() {
	dirs, _ := filepath.Glob(clusterDir("*")) // fails only for a malformed pattern
	for _, dir := range dirs {
		pid, err := strconv.Atoi(strings.TrimPrefix(dir, clusterDir("")))
		if err == nil && gone(pid) {
			_ = os.RemoveAll(dir) // next time, then
		}
	}
}

// Postgres gives one test a fresh database in a real PostgreSQL server, as a URL.
func Postgres(tb testing.TB) string {
	tb.Helper()
	return postgresLike(tb, "template1")
}

// PostgresLike gives one test a copy of a database of Postgres that nobody is connected to.
func PostgresLike(tb testing.TB, original string) string {
	tb.Helper()
	u, err := url.Parse(original)
	return postgresLike(tb, strings.TrimPrefix(must(tb, u, err).Path, "/"))
}

func postgresLike(tb testing.TB, template string) string {
	tb.Helper()
	cluster, err := sharedCluster()
	c := must(tb, cluster, err)
	name := fmt.Sprintf("t%d", time.Now().UnixNano())
	if err := c.SQL(tb.Context(), "create database "+name+" template "+template); err != nil {
		tb.Fatal(err)
	}
	return c.URL(name)
}

// StartPostgres makes a cluster in dir and starts it, with further settings (name=value). PostgreSQL refuses to run as
// root, so root runs it as the account "postgres" that the distribution's package makes.
func StartPostgres(ctx context.Context, dir string, settings ...string) (*Cluster, error) {
	bin, err := postgresBinary()
	if err != nil {
		return nil, err
	}
	if bin, err = filepath.EvalSymlinks(bin); err != nil {
		return nil, fmt.Errorf("find PostgreSQL's programs: %w", err)
	}
	port, err := freePort()
	if err != nil {
		return nil, err
	}
	c := &Cluster{Dir: dir, Port: port}
	attr, err := c.account()
	if err != nil {
		return nil, err
	}
	data := filepath.Join(dir, "data")
	if _, err := os.Stat(data); err != nil {
		initdb := exec.CommandContext(ctx, filepath.Join(filepath.Dir(bin), "initdb"),
			"-D", data, "-U", "heimdall", "-A", "trust", "--no-sync", "-E", "UTF8", "--locale=C.UTF-8")
		initdb.SysProcAttr, initdb.Dir = attr, dir
		if out, err := initdb.CombinedOutput(); err != nil {
			return nil, fmt.Errorf("make a PostgreSQL cluster: %w: %s", err, out)
		}
	}
	c.bin, c.attr, c.args = bin, attr, []string{"-D", data, "-p", strconv.Itoa(port)}
	for _, setting := range append([]string{
		"listen_addresses=127.0.0.1", "unix_socket_directories=", "max_wal_size=2GB", "max_connections=200",
	}, settings...) {
		c.args = append(c.args, "-c", setting)
	}
	return c, c.Start(ctx)
}

// Start starts a stopped or killed server again, on the same port. The children of a killed server may hold its memory for a
// moment, and it does not start meanwhile.
func (c *Cluster) Start(ctx context.Context) error {
	return waitUntil(ctx, "PostgreSQL", func(ctx context.Context) error {
		if c.proc == nil || c.proc.ended() {
			cmd, attr := exec.Command(c.bin, c.args...), *c.attr
			cmd.SysProcAttr, cmd.Dir = &attr, c.Dir
			var err error
			if c.proc, err = start(cmd, filepath.Join(c.Dir, "server.log")); err != nil {
				return err
			}
		}
		return c.SQL(ctx, "select 1")
	})
}

// account is whom the server runs as; it makes the directory that account's own.
func (c *Cluster) account() (*syscall.SysProcAttr, error) {
	if os.Getuid() != 0 {
		return &syscall.SysProcAttr{}, nil
	}
	u, err := user.Lookup("postgres")
	if err != nil {
		return nil, fmt.Errorf("PostgreSQL does not run as root and there is no account postgres: %w", ErrMissing)
	}
	uid, _ := strconv.Atoi(u.Uid) // numbers on every system that has uid 0
	gid, _ := strconv.Atoi(u.Gid)
	if err := os.Chown(c.Dir, uid, gid); err != nil {
		return nil, fmt.Errorf("give %s to the account postgres: %w", c.Dir, err)
	}
	return runAs(uid, gid), nil
}

// URL names a database of the cluster.
func (c *Cluster) URL(database string) string {
	return fmt.Sprintf("postgres://heimdall@127.0.0.1:%d/%s?sslmode=disable", c.Port, database)
}

// SQL runs one statement through psql.
func (c *Cluster) SQL(ctx context.Context, statement string) error {
	psql, err := find("psql", "/usr/lib/postgresql/*/bin/psql")
	if err != nil {
		return err
	}
	if out, err := exec.CommandContext(ctx, psql, "-q", "-d", c.URL("postgres"), "-c", statement).CombinedOutput(); err != nil {
		return fmt.Errorf("%s: %w: %s", statement, err, out)
	}
	return nil
}

// PID is the server's process; its others are children of that.
func (c *Cluster) PID() int { return c.proc.cmd.Process.Pid }

// Stop ends the server, aborting open transactions.
func (c *Cluster) Stop() { c.proc.stop(syscall.SIGINT) }
