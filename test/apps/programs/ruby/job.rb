# SPDX-License-Identifier: Apache-2.0
# Threads and queues, a child behind a pipe, many short-lived objects.
require 'digest'
require 'open3'
$stdout.sync = true
tasks, results = Queue.new, Queue.new
threads = 4.times.map do
  Thread.new do
    while (n = tasks.pop)
      s = n.to_s
      4000.times { |i| s = Digest::SHA256.hexdigest("#{s} #{i} #{[i, n].inspect}") }
      results << [n, s]
    end
  end
end
330.times { |n| tasks << n }
all = 330.times.map { sleep 0.002; results.pop }.sort
4.times { tasks << nil }
threads.each(&:join)
puts all.map { |n, s| "#{n} #{s}" }
IO.popen(['sort', '-r'], 'r+') do |io|
  all.each { |n, s| io.puts "#{s} #{n}" }
  sleep 0.3
  io.close_write
  puts Digest::SHA256.hexdigest(io.read)
end
puts "child #{$?.exitstatus}"
f = Fiber.new { a, b = 0, 1; loop { Fiber.yield a; a, b = b, a + b } }
4000.times { f.resume }
puts f.resume.digits.sum
