// Package systemd is what a daemon says to the service manager that started it,
// and what it gets from it: readiness, the watchdog and inherited sockets. The
// unit files that use all three lie beside this file.
//
//	registryd.socket --- listening descriptors ---> Listeners
//	registryd.service <--- READY=1, WATCHDOG=1, STOPPING=1 --- Notify, Watchdog
//
// The invariant: under any other parent (a shell, a container runtime, a test)
// every call here does nothing and succeeds, so that callers need not ask who
// started them.
package systemd
