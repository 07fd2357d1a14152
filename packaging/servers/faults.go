package servers

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
)

// signalAll sends a signal to a server and to its children: a stopped PostgreSQL whose sessions go on is none.
func (p *process) signalAll(sig syscall.Signal) {
	pid := p.cmd.Process.Pid
	all := []int{pid}
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%d/children", pid, pid))
	if err == nil { // elsewhere than on Linux, the server alone
		for _, word := range strings.Fields(string(text)) {
			if child, err := strconv.Atoi(word); err == nil {
				all = append(all, child)
			}
		}
	}
	for _, pid := range all {
		if p, err := os.FindProcess(pid); err == nil {
			_ = p.Signal(sig) // fails only when it has ended
		}
	}
}

// kill ends a server and its children at once.
func (p *process) kill() {
	p.signalAll(syscall.SIGKILL)
	<-p.done
}

// Wipe removes what a stopped broker has on disk: sessions, queues, retained messages.
func (b *Broker) Wipe() error {
	err := os.Remove(filepath.Join(b.Dir, "mosquitto.db"))
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	return err
}

// Pause makes the broker stand still until Resume.
func (b *Broker) Pause() { b.proc.signalAll(signalPause) }

// Resume ends a pause.
func (b *Broker) Resume() { b.proc.signalAll(signalResume) }

// Kill ends the server as a power cut would.
func (c *Cluster) Kill() { c.proc.kill() }

// Pause makes the server and its sessions stand still until Resume.
func (c *Cluster) Pause() { c.proc.signalAll(signalPause) }

// Resume ends a pause.
func (c *Cluster) Resume() { c.proc.signalAll(signalResume) }

// Kill ends the store as a power cut would.
func (o *ObjectStore) Kill() { o.proc.kill() }

// Pause makes the store stand still until Resume.
func (o *ObjectStore) Pause() { o.proc.signalAll(signalPause) }

// Resume ends a pause.
func (o *ObjectStore) Resume() { o.proc.signalAll(signalResume) }
