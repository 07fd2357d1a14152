package servers

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
)

// Broker is a running Mosquitto.
type Broker struct {
	URL  string // mqtt://127.0.0.1:PORT
	Addr string // 127.0.0.1:PORT
	Dir  string

	proc *process
}

func mosquittoBinary() (string, error) {
	return find("mosquitto", "/usr/sbin/mosquitto", "/usr/local/sbin/mosquitto", "/opt/homebrew/sbin/mosquitto")
}

// Mosquitto starts a broker for one test.
func Mosquitto(tb testing.TB) *Broker {
	tb.Helper()
	b, err := StartMosquitto(tb.Context(), tb.TempDir())
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(b.Stop)
	return b
}

// MosquittoWith starts a broker for one test that lets nobody in without an account, with further lines of configuration.
func MosquittoWith(tb testing.TB, lines string) *Broker {
	tb.Helper()
	b, err := startMosquitto(tb.Context(), tb.TempDir(), "allow_anonymous false\n"+lines)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(b.Stop)
	return b
}

// DynamicSecurity makes the accounts of Mosquitto's dynamic-security plug-in, with one that may change them, and gives the lines of
// configuration that load it.
func DynamicSecurity(tb testing.TB, username, password string) (lines string) {
	tb.Helper()
	plugin, err := find("mosquitto_dynamic_security.so", "/usr/lib/*/mosquitto_dynamic_security.so", "/usr/local/lib/mosquitto_dynamic_security.so",
		"/opt/homebrew/lib/mosquitto_dynamic_security.so")
	plugin = must(tb, plugin, err)
	ctl, err := find("mosquitto_ctrl")
	ctl = must(tb, ctl, err)
	file := filepath.Join(tb.TempDir(), "dynamic-security.json")
	if out, err := exec.CommandContext(tb.Context(), ctl, "dynsec", "init", file, username, password).CombinedOutput(); err != nil {
		tb.Fatalf("mosquitto_ctrl dynsec init: %v\n%s", err, out)
	}
	return "plugin " + plugin + "\nplugin_opt_config_file " + file + "\n"
}

// StartMosquitto starts a broker that keeps its state in dir.
//
// Persistence is the distribution's: what was queued is on disk only after a clean stop or the save each 5 s, so a killed
// broker forgets what it confirmed. That is the harder setting, and the one that people run.
func StartMosquitto(ctx context.Context, dir string) (*Broker, error) {
	return startMosquitto(ctx, dir, "allow_anonymous true\n")
}

func startMosquitto(ctx context.Context, dir, lines string) (*Broker, error) {
	port, err := freePort()
	if err != nil {
		return nil, err
	}
	b := &Broker{Addr: fmt.Sprintf("127.0.0.1:%d", port), Dir: dir}
	b.URL = "mqtt://" + b.Addr
	conf := fmt.Sprintf(`listener %d 127.0.0.1
persistence true
persistence_location %s/
autosave_interval 5
max_inflight_messages 2000
max_queued_messages 200000
message_size_limit 2097152
max_packet_size 2097152
log_dest stderr
%s`, port, dir, lines)
	if os.Getuid() == 0 {
		conf += "user root\n"
	}
	if err := os.WriteFile(b.conf(), []byte(conf), 0o600); err != nil {
		return nil, fmt.Errorf("write mosquitto.conf: %w", err)
	}
	return b, b.Start(ctx)
}

func (b *Broker) conf() string { return filepath.Join(b.Dir, "mosquitto.conf") }

// Start starts a stopped or killed broker again, at the same address.
func (b *Broker) Start(ctx context.Context) error {
	path, err := mosquittoBinary()
	if err != nil {
		return err
	}
	b.proc, err = start(exec.Command(path, "-c", b.conf()), filepath.Join(b.Dir, "mosquitto.log"))
	if err != nil {
		return err
	}
	return waitUntil(ctx, "mosquitto", dialable(b.Addr))
}

// PID is the broker's process.
func (b *Broker) PID() int { return b.proc.cmd.Process.Pid }

// Reload has the broker read its files of accounts again.
func (b *Broker) Reload() { _ = b.proc.cmd.Process.Signal(syscall.SIGHUP) }

// Stop ends the broker cleanly; it keeps its sessions and retained messages for Start.
func (b *Broker) Stop() { b.proc.stop(syscall.SIGTERM) }

// Kill ends the broker as a power cut would.
func (b *Broker) Kill() { b.proc.stop(syscall.SIGKILL) }
