/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Two functions that must not have a frame of their own around the system call,
 * because it may return twice on one stack (vfork, clone): they ask for the real
 * one and jump there.
 */
	.text
	.globl	vfork
	.type	vfork, @function
vfork:
	subq	$8, %rsp
	call	esky_vfork
	addq	$8, %rsp
	jmp	*%rax
	.size	vfork, . - vfork

	.globl	syscall
	.type	syscall, @function
syscall:
	pushq	%rdi
	pushq	%rsi
	pushq	%rdx
	pushq	%rcx
	pushq	%r8
	pushq	%r9
	subq	$8, %rsp
	call	esky_syscall_wanted
	addq	$8, %rsp
	popq	%r9
	popq	%r8
	popq	%rcx
	popq	%rdx
	popq	%rsi
	popq	%rdi
	testq	%rax, %rax
	jz	esky_syscall		/* its seventh argument is where it was */
	jmp	*%rax
	.size	syscall, . - syscall
	.hidden	esky_vfork
	.hidden	esky_syscall
	.hidden	esky_syscall_wanted
	.section .note.GNU-stack, "", @progbits
