package main

import (
	"os"
	"runtime"
	"strconv"
	"time"

	"golang.org/x/sys/unix"
)

const (
	// timerSlack is by how much the system may be late with a timer of ours. Go's scheduler has
	// a monitor, a thread that wakes every 20 us as long as some goroutine comes and goes with
	// system calls. Where setting a timer is dear, as in virtual machines, these wakes were a
	// fifth of the processor time of a node with a busy producer. With some slack they come at
	// longer intervals (docs/design/0016).
	timerSlack = 200 * time.Microsecond
	// defaultSlack is what the system gives; another one was somebody's choice and stays.
	defaultSlack = 50 * time.Microsecond
)

// relaxTimers gives the threads of the process timerSlack, and so those that they will start.
// For threads other than its own a process needs CAP_SYS_NICE, as root has; without it
// little is gained and nothing lost. On a single processor the monitor has to be quick: there
// it is what takes the processor from a goroutine that waits for the disk.
func relaxTimers() {
	if runtime.GOMAXPROCS(0) == 1 {
		return
	}
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	now, err := unix.PrctlRetInt(unix.PR_GET_TIMERSLACK, 0, 0, 0, 0)
	if err != nil || time.Duration(now) != defaultSlack {
		return
	}
	if unix.Prctl(unix.PR_SET_TIMERSLACK, uintptr(timerSlack), 0, 0, 0) != nil {
		return
	}
	threads, err := os.ReadDir("/proc/self/task")
	if err != nil {
		return
	}
	for _, t := range threads {
		// Threads have no such file under task, but may be named like processes.
		_ = os.WriteFile("/proc/"+t.Name()+"/timerslack_ns", []byte(strconv.Itoa(int(timerSlack))), 0)
	}
}
