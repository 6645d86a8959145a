// SPDX-License-Identifier: Apache-2.0

// Package host tells what this host is and what it can do.
//
// Describe and MappedFile say what an image depends on: architecture, the CPU
// features that a program can use, the layout of saved CPU state, the vDSO, the
// files that the job maps. Match compares such a description with this host and
// names everything that is missing, so that a job is never resumed where it
// would crash.
//
// Probe tries what esky needs of the kernel and of the administrator, by doing
// it in small helper processes, which are this executable again: main must give
// them to ProbeMain.
package host
