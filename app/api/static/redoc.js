// Its search would make a worker from text, which the policy forbids; without workers it searches in the page.
window.Worker = undefined;
