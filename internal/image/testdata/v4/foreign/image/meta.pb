
J¢*
otherother 1

file0€
file1€ 