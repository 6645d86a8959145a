# SPDX-License-Identifier: Apache-2.0
# Hashes that grow, regular expressions, a child for every tenth line whose
# status is waited for, and a nap by select.
use strict;
use warnings;
$| = 1;
my $lines = shift;
my (%count, $text);
my $state = 42;
open(my $out, '>', 'out') or die "out: $!";
for my $i (0 .. $lines - 1) {
    for (1 .. 3000) {
        $state = ($state * 1103515245 + 12345) % 2147483648;
        $count{ $state % 5003 }++;
    }
    $text = join ',', map { "$_=$count{$_}" } sort { $a <=> $b } keys %count;
    my $sum = unpack('%32C*', $text);
    my $status = '';
    if ($i % 10 == 9) {
        my $pid = fork // die "fork: $!";
        if (!$pid) { select(undef, undef, undef, 0.02); exit($i % 50); }
        waitpid($pid, 0) == $pid or die "waitpid: $!";
        $status = ' child ' . ($? >> 8);
    }
    my $slept = select(undef, undef, undef, 0.005);
    die "select: $!" if $slept < 0;
    print "$i $state $sum$status\n";
    print $out "$i ", length($text), "\n";
}
